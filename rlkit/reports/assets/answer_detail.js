/* One answer in full, beside the other answers to its prompt. */
const MANY = 16;

async function showAnswer(detail, answer, context) {
  detail.dataset.showing = `${answer.number}/${answer.at}`;
  const siblings = context.answers.filter((one) => one.run === answer.run && one.step === answer.step && one.group === answer.group && answer.group !== null);
  const group = siblings.length ? siblings : [answer];
  const blocks = await Promise.all(group.map((one) => loadBlock(one.block)));
  const vocabulary = answer.run.answers.vocabulary === null ? null : await loadBlock(answer.run.answers.vocabulary);
  if (detail.dataset.showing !== `${answer.number}/${answer.at}`) return;
  const texts = group.map((one, at) => textsOf(one, blocks[at]));
  const own = texts[group.indexOf(answer)];
  detail.replaceChildren(...[
    element("div", { class: "facts" }, answerFacts(answer, context)),
    ...block("question", own.question), ...(own.reference ? block("reference", own.reference) : []),
    group.length > 1 ? element("div", { class: "who" }, `${group.length} answers to this prompt in this step`) : element("div", { class: "who" }, "answer"),
    groupColumns(group, texts, answer, context),
    own.tokens ? tokenView(own.tokens, vocabulary, context.position) : null,
    own.tokens === null && answer.tokens ? element("p", { class: "note" }, "The numbers of its tokens are not in this page: it keeps those of some answers of each step.") : null,
    otherSteps(answer, context),
  ].filter(Boolean));
  const beside = detail.querySelector(".group"), chosen = detail.querySelector(".reply[aria-current=true]");
  beside.scrollLeft = chosen.offsetLeft - beside.offsetLeft - 40;
}

function answerFacts(answer, { several }) {
  return [
    several ? element("b", {}, answer.run.label) : null, element("b", {}, `step ${answer.step.toLocaleString("en")}`),
    answer.source && answer.source !== "default" ? element("span", {}, answer.source) : null,
    answer.row === null || answer.row === undefined ? null : element("span", {}, `row ${answer.row.toLocaleString("en")} of the data`),
    answer.mismatch === null || answer.mismatch === undefined ? null : element("span", {}, `mean |trainer − engine| ${plain(answer.mismatch)} nats`),
  ];
}

function groupColumns(group, texts, answer, { scale, select }) {
  const cards = group.map((one, at) => {
    const card = element("div", { class: `reply ${scale(one.score)}`, "aria-current": one === answer ? "true" : "false", tabindex: "0" },
      element("div", { class: "facts" }, replyFacts(one)), element("pre", {}, texts[at].answer || "(empty)"),
      texts[at].error ? element("p", { class: "fault" }, texts[at].error) : null);
    if (one !== answer) {
      card.addEventListener("click", () => { if (String(getSelection()) === "") select(one); });
      card.addEventListener("keydown", (event) => { if (event.key === "Enter") select(one); });
    }
    return card;
  });
  return element("div", { class: group.length > 1 ? "group" : "group single" }, cards);
}

function replyFacts(answer) {
  const telling = answer.parts.length > 1 ? answer.parts : answer.parts.filter(([, value]) => value !== answer.score);
  return [
    element("b", {}, answer.score === null ? "no reward" : `reward ${plain(answer.score)}`),
    ...telling.map(([name, value]) => element("span", {}, `${name} ${plain(value)}`)),
    answer.tokens === null ? null : element("span", {}, answer.tokens === 1 ? "1 token" : `${answer.tokens.toLocaleString("en")} tokens`),
    answer.finish === "length" ? element("span", { class: "fault" }, "cut off") : null,
  ];
}

function block(name, text) {
  return [element("div", { class: "who" }, name), element("pre", {}, text || "(empty)")];
}

/* The same row of the data in other steps: how the answers to it have changed. */
function otherSteps(answer, { answers, select }) {
  if (answer.row === null || answer.row === undefined) return null;
  const steps = new Map();
  for (const one of answers) {
    if (one.run !== answer.run || one.row !== answer.row || one.source !== answer.source || one.step === answer.step) continue;
    steps.set(one.step, [...(steps.get(one.step) || []), one]);
  }
  if (!steps.size) return null;
  const chips = [...steps].slice(-MANY).map(([step, members]) => {
    const known = members.filter((one) => one.score !== null), mean = known.reduce((sum, one) => sum + one.score, 0) / known.length;
    const chip = element("button", { type: "button", class: "small" }, `step ${step.toLocaleString("en")}`, known.length ? element("span", { class: "soft" }, ` ${plain(+mean.toPrecision(3))}`) : null);
    chip.addEventListener("click", () => select(members[0]));
    return chip;
  });
  return element("div", {}, element("div", { class: "who" }, "the same prompt in other steps, with the mean reward"), element("div", { class: "chips" }, chips));
}
