/* The trainer's log-probs against the engine's, token by token. */
function mismatchCards(runs, charts, openAnswer) {
  const compared = runs.filter((run) => run.mismatch);
  return compared.length ? [...charts, ...compared.flatMap((run) => [differenceMap(run, runs.length > 1), differenceBars(run, runs.length > 1), worstTokens(run, runs.length > 1, openAnswer)])] : charts;
}

function differenceMap(run, several) {
  const { steps, labels, counts, tokens, files, read } = run.mismatch;
  const sums = steps.map((_, column) => counts.reduce((sum, row) => sum + row[column], 0));
  const used = counts.map((row) => row.some((count) => count > 0));
  const first = Math.max(0, used.indexOf(true) - 1), last = Math.min(labels.length - 1, used.lastIndexOf(true) + 1);
  const shares = counts.slice(first, last + 1).map((row) => row.map((count, column) => count / sums[column]));
  const map = { name: "", steps, labels: labels.slice(first, last + 1), shares };
  const where = read < files ? `, of ${read.toLocaleString("en")} of ${files.toLocaleString("en")} steps` : "";
  return heatmapCard(`How far apart${several ? `: ${run.label}` : ""}`,
    `|log-prob of the trainer − of the engine| in nats, ${tokens.toLocaleString("en")} sampled tokens${where}`, [map],
    (_, step, label, share) => `step ${step.toLocaleString("en")}: ${formatted(share, "share")} of the tokens, ${label} nats`, 30 * map.labels.length);
}

/* All steps together. */
function differenceBars(run, several) {
  const { labels, totals: sums, tokens: total, quantiles } = run.mismatch;
  const most = Math.max(...sums);
  const rows = labels.map((label, at) => [label, sums[at]]).filter(([, count]) => count > 0).reverse();
  const bars = rows.map(([label, count]) => [
    element("span", { class: "name" }, label),
    element("span", { class: "bar" }, element("span", { style: `width: ${Math.max(0.6, (100 * count) / most).toFixed(2)}%; background: var(--accent)` })),
    element("b", {}, formatted(count / total, "share")), element("span", { class: "spent" }, count.toLocaleString("en")),
  ]);
  const last = Object.entries(quantiles).map(([name, values]) => `${name} ${plain(values[values.length - 1])}`).join(", ");
  return element("div", { class: "card" }, element("div", { class: "head" }, element("h3", {}, `All tokens${several ? `: ${run.label}` : ""}`)),
    element("div", { class: "note" }, `|difference| in nats, how many tokens; in the last step: ${last}`), element("div", { class: "bars" }, bars));
}

function worstTokens(run, several, openAnswer) {
  const { worst } = run.mismatch;
  if (!worst.length) return element("div", { class: "card wide" }, element("h3", {}, "Largest differences"), element("p", { class: "empty" }, "Engine and trainer agree on every token."));
  const body = element("tbody");
  const head = ["token", "step", "difference", "engine", "trainer", "", ""].map((name, at) => element("th", { class: at > 0 && at < 5 ? "number" : "" }, name));
  const fill = (texts) => body.replaceChildren(...worst.map((one) => {
    const open = element("button", { type: "button", class: "small" }, "answer");
    open.addEventListener("click", () => openAnswer(run, one.answer, one.position));
    return element("tr", {},
      element("td", { class: "value" }, texts && texts[one.token] !== undefined ? visibleText(texts[one.token]) : `#${one.token}`),
      element("td", { class: "number" }, one.step.toLocaleString("en")),
      element("td", { class: "number" }, signed(one.difference)),
      element("td", { class: "number" }, probability(one.engine)), element("td", { class: "number" }, probability(one.trainer)),
      element("td", { class: "origin" }, one.learned ? "" : "not learned from"),
      element("td", {}, one.answer === null || one.answer === undefined ? "" : open));
  }));
  fill(null);
  if (run.answers.vocabulary !== null) loadBlock(run.answers.vocabulary).then(fill);
  return element("div", { class: "card wide listing" },
    element("div", { class: "head" }, element("h3", {}, `Largest differences${several ? `: ${run.label}` : ""}`)),
    element("div", { class: "note" }, "log-prob of the trainer minus that of the engine in nats; the probability that each gives the token"),
    element("div", { class: "scroll tall" }, element("table", {}, element("thead", {}, element("tr", {}, head)), body)));
}

const probability = (logProb) => formatted(Math.exp(logProb), "share");
