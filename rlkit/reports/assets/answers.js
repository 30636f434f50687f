/* The answers of all runs: filters, a list, and one of them in full. */
const ORDERS = {
  newest: ["latest step first", (a, b) => b.step - a.step || a.at - b.at],
  oldest: ["first step first", (a, b) => a.step - b.step || a.at - b.at],
  best: ["best first", (a, b) => rank(b.score, -Infinity) - rank(a.score, -Infinity)],
  worst: ["worst first", (a, b) => rank(a.score, Infinity) - rank(b.score, Infinity)],
  longest: ["longest first", (a, b) => rank(b.tokens, -1) - rank(a.tokens, -1)],
  shortest: ["shortest first", (a, b) => rank(a.tokens, Infinity) - rank(b.tokens, Infinity)],
  mismatch: ["largest mismatch first", (a, b) => rank(b.mismatch, -1) - rank(a.mismatch, -1)],
  random: ["at random", (a, b) => a.ticket - b.ticket],
};
const rank = (value, missing) => (value === null || value === undefined ? missing : value);

/* One object for each answer from the columns of a run's index. */
function answersOf(run, number, index) {
  return index.step.map((step, at) => ({
    run, number, at, step, row: index.row[at], group: index.group[at], source: index.sources[index.source[at]], finish: index.finishes[index.finish[at]],
    score: index.score[at], tokens: index.tokens[at], mismatch: index.mismatch[at], detailed: index.detailed[at] === 1,
    block: run.answers.blocks[Math.floor(at / index.blockSize)], inBlock: at % index.blockSize, ticket: Math.random(),
    parts: Object.entries(index.parts).map(([name, values]) => [name, values[at]]).filter(([, value]) => value !== null && value !== undefined),
  }));
}

/* Question, reference, answer, error and tokens of an answer, from its (unpacked) block. */
function textsOf(answer, block) {
  const at = answer.inBlock;
  return { question: block.texts[block.question[at]], reference: block.texts[block.reference[at]], answer: block.answer[at], error: block.error[at], tokens: block.tokens[at] };
}

const ANSWER_COLOURS = ["low", "middle", "high"];

function rewardScale(answers) {
  let low = Infinity, high = -Infinity;
  for (const { score } of answers) if (score !== null) { low = Math.min(low, score); high = Math.max(high, score); }
  return (value) => (value === null || !(high > low) ? "plain" : ANSWER_COLOURS[Math.min(2, Math.floor((3 * (value - low)) / (high - low)))]);
}

/* The section's content is there at once; the index is unpacked when the browser has a moment. */
function answerBrowser(runs) {
  const browser = { made: element("div", {}, element("p", { class: "empty" }, "Unpacking the answers ...")), open: null };
  browser.ready = Promise.all(runs.map((run) => (run.answers.index === null ? null : loadBlock(run.answers.index)))).then((indexes) => {
    const answers = indexes.flatMap((index, number) => (index === null ? [] : answersOf(runs[number], number, index)));
    const shown = answerPanes(runs, answers);
    browser.made.replaceChildren(...shown.parts);
    browser.open = shown.open;
  });
  return browser;
}

function answerPanes(runs, answers) {
  const scale = rewardScale(answers), several = runs.length > 1;
  const detail = element("div", { class: "detail card", tabindex: "-1" });
  const count = element("span", { class: "count", role: "status" });
  const select = (answer, position = null) => { list.mark(answer); showAnswer(detail, answer, { answers, scale, select, several, position }); };
  const list = answerList(scale, several, select);
  const filters = answerFilters(runs, answers, async () => update());
  let turn = 0;
  const update = async () => {
    const mine = turn += 1, wanted = filters.read();
    let found = answers.filter(wanted.matches);
    if (wanted.text) {
      found = await containing(found, wanted.text, (share) => { if (mine === turn) count.textContent = `searching, ${Math.round(100 * share)} %`; }, () => mine !== turn);
      if (mine !== turn) return;
    }
    found.sort(ORDERS[wanted.order][1]);
    count.textContent = countText(found.length, answers, runs);
    list.show(found);
    if (found.length) select(found[0]); else detail.replaceChildren(element("p", { class: "empty" }, "No answer matches."));
  };
  update();
  const open = (run, at, position) => {
    const answer = answers.find((one) => one.run === run && one.at === at);
    if (!answer) return;
    select(answer, position);
    document.getElementById("answers").scrollIntoView();
  };
  return { parts: [filters.made, count, element("div", { class: "panes" }, list.made, detail)], open };
}

function countText(found, answers, runs) {
  const total = runs.reduce((sum, run) => sum + run.answers.total, 0), carried = answers.length;
  const here = found === carried ? `${carried.toLocaleString("en")} answers` : `${found.toLocaleString("en")} of ${carried.toLocaleString("en")} answers`;
  return carried < total ? `${here}; ${several(runs)} sampled ${total.toLocaleString("en")}, of which this page carries some of every kind` : here;
}
const several = (runs) => (runs.length > 1 ? "the runs" : "the run");

/* Those whose question, answer or reference holds the text, whatever its case; block after block, so that the page stays alive. */
async function containing(answers, text, progress, isOver) {
  const byBlock = new Map();
  for (const answer of answers) byBlock.set(answer.block, [...(byBlock.get(answer.block) || []), answer]);
  const found = [];
  let done = 0;
  for (const [number, members] of byBlock) {
    const block = await loadBlock(number);
    if (isOver()) return [];
    const hits = block.texts.map((one) => one.toLowerCase().includes(text));
    for (const answer of members) {
      const at = answer.inBlock;
      if (hits[block.question[at]] || hits[block.reference[at]] || block.answer[at].toLowerCase().includes(text)) found.push(answer);
    }
    done += 1;
    if (done % 8 === 0) { progress(done / byBlock.size); await new Promise((resume) => setTimeout(resume)); }
  }
  return found;
}

function answerFilters(runs, answers, changed) {
  const field = (type, label, attributes = {}) => element("input", { type, "aria-label": label, placeholder: label, ...attributes });
  const options = (values, all) => element("select", { "aria-label": all, hidden: values.length < 2 }, element("option", { value: "" }, all), values.map((value) => element("option", { value }, value)));
  const names = (key) => [...new Set(answers.map((answer) => answer[key]).filter(Boolean))].sort();
  const text = field("search", "search questions and answers");
  const firstStep = field("number", "from", { min: 0, "aria-label": "from step" }), lastStep = field("number", "to", { min: 0, "aria-label": "to step" });
  const low = field("number", "from", { step: "any", "aria-label": "reward from" }), high = field("number", "to", { step: "any", "aria-label": "reward to" });
  const run = options(runs.map((one) => one.label), "every run"), source = options(names("source"), "every data source"), finish = options(names("finish"), "every ending");
  const hasTokens = answers.some((answer) => answer.tokens !== null), hasMismatch = answers.some((answer) => answer.mismatch);
  const useful = Object.entries(ORDERS).filter(([key]) => (hasTokens || !["longest", "shortest"].includes(key)) && (hasMismatch || key !== "mismatch"));
  const order = element("select", { "aria-label": "Order" }, useful.map(([key, [name]]) => element("option", { value: key }, name)));
  const clear = element("button", { type: "button" }, "clear");
  const controls = [text, firstStep, lastStep, low, high, run, source, finish, order];
  let waiting = 0;
  for (const control of controls) control.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(changed, control.tagName === "INPUT" ? 200 : 0); });
  clear.addEventListener("click", () => { for (const control of controls) control.value = control === order ? "newest" : ""; changed(); });
  const read = () => {
    const steps = [numberOr(firstStep.value, -Infinity), numberOr(lastStep.value, Infinity)], scores = [numberOr(low.value, null), numberOr(high.value, null)];
    const matches = (answer) => answer.step >= steps[0] && answer.step <= steps[1]
      && (scores[0] === null || (answer.score !== null && answer.score >= scores[0])) && (scores[1] === null || (answer.score !== null && answer.score <= scores[1]))
      && (!run.value || answer.run.label === run.value) && (!source.value || answer.source === source.value) && (!finish.value || answer.finish === finish.value);
    return { matches, text: text.value.trim().toLowerCase(), order: order.value };
  };
  return { made: element("div", { class: "controls" }, text, element("label", { class: "pair" }, "step", firstStep, lastStep), element("label", { class: "pair" }, "reward", low, high), run, source, finish, order, clear), read };
}
