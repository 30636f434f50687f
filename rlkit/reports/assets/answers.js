/* Sampled answers: choose a step, an order, a word. */
const ORDERS = {
  best: ["best first", (a, b) => (b.score ?? -Infinity) - (a.score ?? -Infinity)],
  worst: ["worst first", (a, b) => (a.score ?? Infinity) - (b.score ?? Infinity)],
  file: ["in order", () => 0],
  longest: ["longest first", (a, b) => (b.tokens || 0) - (a.tokens || 0)],
};
const SHOWN = 12;

function answerBrowser(answers) {
  const steps = [...new Set(answers.map((answer) => answer.step))];
  const step = element("select", { "aria-label": "Step" }, steps.map((s) => element("option", { value: s }, `step ${s}`)));
  step.value = steps[steps.length - 1];
  const order = element("select", { "aria-label": "Order" }, Object.entries(ORDERS).map(([key, [name]]) => element("option", { value: key }, name)));
  order.value = "file";
  const search = element("input", { type: "search", placeholder: "search questions and answers", "aria-label": "Search" });
  const list = element("div", { class: "answer-list" });
  const more = element("button", { type: "button" }, "show more");
  let limit = SHOWN;
  const update = () => {
    const word = search.value.toLowerCase();
    const found = answers
      .filter((answer) => answer.step === Number(step.value))
      .filter((answer) => !word || `${answer.question}\n${answer.answer}`.toLowerCase().includes(word))
      .sort(ORDERS[order.value][1]);
    list.replaceChildren(...found.slice(0, limit).map(answerCard));
    if (!found.length) list.replaceChildren(element("p", { class: "empty" }, "No answer matches."));
    more.hidden = found.length <= limit;
  };
  for (const control of [step, order, search]) control.addEventListener("input", () => { limit = SHOWN; update(); });
  more.addEventListener("click", () => { limit += 2 * SHOWN; update(); });
  update();
  return element("div", {}, element("div", { class: "controls" }, step, order, search), list, element("p", {}, more));
}

function answerCard(answer) {
  const parts = Object.entries(answer.parts || {}).filter(([, value]) => value !== answer.score || Object.keys(answer.parts).length > 1);
  const facts = [
    element("span", { class: "score" }, answer.score === null ? "no score" : `reward ${plain(answer.score)}`),
    ...parts.map(([name, value]) => element("span", {}, `${name} ${plain(value)}`)),
    answer.tokens ? element("span", {}, `${answer.tokens} tokens`) : null,
    answer.finish === "length" ? element("span", {}, "cut off") : null,
    answer.source && answer.source !== "default" ? element("span", {}, answer.source) : null,
  ];
  return element("article", { class: "card answer" },
    element("div", { class: "top" }, facts.filter(Boolean)),
    block("question", answer.question), block("answer", answer.answer || "(empty)"),
    answer.reference ? block("reference", answer.reference) : null,
    answer.error ? element("p", { class: "fault" }, answer.error) : null);
}

function block(name, text) {
  return [element("div", { class: "who" }, name), element("pre", {}, text)];
}
