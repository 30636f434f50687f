/* Sampled answers: choose a step, an order, a word. */
const SHOWN = 12;
const score = (answer, missing) => (answer.score === null ? missing : answer.score);
const ORDERS = {
  prompt: ["by prompt", null],
  best: ["best first", (a, b) => score(b, -Infinity) - score(a, -Infinity)],
  worst: ["worst first", (a, b) => score(a, Infinity) - score(b, Infinity)],
  random: ["at random", (a, b) => a.ticket - b.ticket],
  longest: ["longest first", (a, b) => (b.tokens || b.answer.length) - (a.tokens || a.answer.length)],
};

function answerBrowser(answers) {
  const steps = [...new Set(answers.map((answer) => answer.step))];
  const scale = rewardScale(answers);
  const step = element("select", { "aria-label": "Step" }, steps.map((s) => element("option", { value: s }, `step ${s.toLocaleString("en")}`)));
  const order = element("select", { "aria-label": "Order" }, Object.entries(ORDERS).map(([key, [name]]) => element("option", { value: key }, name)));
  const again = element("button", { type: "button", hidden: true }, "shuffle");
  const search = element("input", { type: "search", placeholder: "search questions and answers", "aria-label": "Search" });
  const list = element("div", { class: "answer-list" });
  const more = element("button", { type: "button" }, "show more");
  step.value = steps[steps.length - 1];
  let limit = SHOWN;
  const update = () => {
    const word = search.value.toLowerCase(), compare = ORDERS[order.value][1];
    const found = answers
      .filter((answer) => answer.step === Number(step.value))
      .filter((answer) => !word || `${answer.question}\n${answer.answer}\n${answer.reference}`.toLowerCase().includes(word));
    const groups = compare ? found.sort(compare).map((answer) => [answer]) : byPrompt(found);
    list.replaceChildren(...groups.slice(0, limit).map((group) => answerCard(group, scale)));
    if (!groups.length) list.append(element("p", { class: "empty" }, "No answer matches."));
    more.hidden = groups.length <= limit;
    again.hidden = order.value !== "random";
  };
  const shuffle = () => { for (const answer of answers) answer.ticket = Math.random(); };
  const restart = () => { limit = SHOWN; update(); };
  for (const control of [step, order, search]) control.addEventListener("input", restart);
  again.addEventListener("click", () => { shuffle(); restart(); });
  more.addEventListener("click", () => { limit += 2 * SHOWN; update(); });
  shuffle();
  update();
  return element("div", {}, element("div", { class: "controls" }, step, order, again, search), list, element("p", {}, more));
}

/* Answers to one prompt together, prompts with several answers first. */
function byPrompt(answers) {
  const groups = new Map();
  answers.forEach((answer, at) => {
    const key = answer.group === null ? `row ${at}` : answer.group;
    groups.set(key, [...(groups.get(key) || []), answer]);
  });
  return [...groups.values()].sort((a, b) => b.length - a.length);
}

function rewardScale(answers) {
  const scores = answers.map((answer) => answer.score).filter((value) => value !== null);
  const low = Math.min(...scores), high = Math.max(...scores);
  return (value) => {
    if (value === null || !(high > low)) return "plain";
    const share = (value - low) / (high - low);
    return share > 2 / 3 ? "high" : share < 1 / 3 ? "low" : "middle";
  };
}

function answerCard(group, scale) {
  const [first] = group;
  const source = first.source && first.source !== "default" ? first.source : "";
  return element("article", { class: "card answer" },
    block(["question", source].filter(Boolean).join(" · "), first.question),
    first.reference ? block("reference", first.reference) : null,
    group.map((answer) => element("div", { class: `reply ${scale(answer.score)}` },
      element("div", { class: "facts" }, replyFacts(answer)), element("pre", {}, answer.answer || "(empty)"),
      answer.error ? element("p", { class: "fault" }, answer.error) : null)));
}

function replyFacts(answer) {
  const parts = Object.entries(answer.parts || {});
  const telling = parts.length > 1 ? parts : parts.filter(([, value]) => value !== answer.score);
  return [
    element("b", {}, answer.score === null ? "no reward" : `reward ${plain(answer.score)}`),
    ...telling.map(([name, value]) => element("span", {}, `${name} ${plain(value)}`)),
    answer.tokens === null ? null : element("span", {}, answer.tokens === 1 ? "1 token" : `${answer.tokens} tokens`),
    answer.finish === "length" ? element("span", { class: "fault" }, "cut off") : null,
  ];
}

function block(name, text) {
  return [element("div", { class: "who" }, name), element("pre", {}, text)];
}
