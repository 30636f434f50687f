/* A list of any length of which only the rows in sight exist. */
const ROW = 62, BEYOND = 6;

function answerList(scale, several, select) {
  const rows = element("div", { class: "rows" });
  const made = element("div", { class: "list card", tabindex: "0", role: "listbox", "aria-label": "Answers" }, rows);
  let answers = [], chosen = null, asked = false;
  const draw = () => {
    asked = false;
    const first = Math.max(0, Math.floor(made.scrollTop / ROW) - BEYOND);
    const last = Math.min(answers.length, Math.ceil((made.scrollTop + made.clientHeight) / ROW) + BEYOND);
    rows.replaceChildren(...answers.slice(first, last).map((answer, at) => row(answer, (first + at) * ROW)));
  };
  const soon = () => { if (!asked) { asked = true; requestAnimationFrame(draw); } };
  const row = (answer, top) => {
    const snippet = element("span", { class: "snippet" }, "…");
    loadBlock(answer.block).then((block) => { snippet.textContent = beginning(textsOf(answer, block)); });
    const facts = [
      element("b", { class: `score ${scale(answer.score)}` }, answer.score === null ? "–" : plain(answer.score)), element("span", {}, `step ${answer.step.toLocaleString("en")}`),
      several ? element("span", { class: "run", style: `--c: ${colour(answer.number)}` }, answer.run.label) : null,
      answer.tokens === null ? null : element("span", {}, `${answer.tokens.toLocaleString("en")} tok`),
      answer.finish === "length" ? element("span", { class: "fault" }, "cut off") : null,
      answer.source && answer.source !== "default" ? element("span", { class: "source" }, answer.source) : null,
    ];
    const one = element("div", { class: "row", role: "option", "aria-selected": answer === chosen ? "true" : "false" }, element("div", { class: "facts" }, facts), snippet);
    one.style.top = `${top}px`;
    one.addEventListener("click", () => select(answer));
    return one;
  };
  const mark = (answer) => {
    chosen = answer;
    const at = answers.indexOf(answer);
    if (at >= 0 && (at * ROW < made.scrollTop || (at + 1) * ROW > made.scrollTop + made.clientHeight)) made.scrollTop = Math.max(0, at * ROW - made.clientHeight / 3);
    soon();
  };
  made.addEventListener("scroll", soon);
  made.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (!by || !answers.length) return;
    event.preventDefault();
    select(answers[Math.min(answers.length - 1, Math.max(0, answers.indexOf(chosen) + by))]);
  });
  new ResizeObserver(soon).observe(made);
  const show = (found) => { answers = found; rows.style.height = `${found.length * ROW}px`; made.style.height = `${Math.max(1, found.length) * ROW + 2}px`; made.scrollTop = 0; soon(); };
  return { made, show, mark };
}

function beginning(texts) {
  const text = texts.answer.trim() || "(empty)";
  return text.slice(0, 160).replace(/\s+/g, " ");
}
