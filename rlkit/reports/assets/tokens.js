/* One answer token by token: colour by one number, all numbers of the token under the pointer. */
const LOG_PROB_STEP = 1e-4, DIFFERENCE_STEP = 1e-5;

/* How many times each number is drawn from its column: {"unit", "values"}, a column of multiples, or one number for all. */
function column(values, unit, length) {
  if (values === undefined || values === null) return null;
  if (typeof values === "object" && !Array.isArray(values)) return column(values.values, values.unit, length);
  const scale = (value) => (value === null ? null : value * unit);
  return Array.isArray(values) ? values.map(scale) : Array(length).fill(scale(values));
}

function tokenColumns(tokens) {
  const length = tokens.ids.length, read = (name, unit) => column(tokens[name], unit, length);
  const engine = read("engine", DIFFERENCE_STEP);
  const columns = [
    ["advantage", "advantage", read("advantage", 1), "signed"],
    ["trainer − engine", "trainer − engine, nats", engine, "signed"],
    ["ratio", "ratio of trainer to engine", engine && engine.map((value) => (value === null ? null : Math.exp(value))), "ratio"],
    ["log-prob", "log-prob of the trainer, nats", read("logp", LOG_PROB_STEP), "down"],
    ["entropy", "entropy, nats", read("entropy", 1), "up"],
    ["trainer − reference", "trainer − reference, nats", read("reference", DIFFERENCE_STEP), "signed"],
    ["value", "value of the critic", read("value", 1), "signed"],
    ["return", "return", read("return", 1), "signed"],
    ["weight", "importance weight", read("weight", 1), "ratio"],
    ["loss mask", "in the loss", read("learned", 1), "up"],
  ];
  return columns.filter(([, , values]) => values !== null);
}

function tokenView(tokens, vocabulary, position) {
  const columns = tokenColumns(tokens), length = tokens.ids.length;
  const sampled = column(tokens.sampled, 1, length), learned = column(tokens.learned, 1, length);
  const text = (at) => (vocabulary && vocabulary[tokens.ids[at]] !== undefined ? vocabulary[tokens.ids[at]] : null);
  const spans = tokens.ids.map((id, at) => {
    const own = text(at), classes = ["token", sampled && !sampled[at] ? "given" : "", learned && !learned[at] ? "masked" : "", own === null ? "id" : "", at === position ? "sought" : ""];
    return element("span", { class: classes.filter(Boolean).join(" "), "data-at": at }, own === null ? String(id) : own === "" ? "∅" : own.replace(/\n/g, "⏎\n"));
  });
  const field = element("div", { class: "tokens", tabindex: "0" }, spans);
  const legend = element("div", { class: "scale" });
  const chooser = element("select", { class: "small", "aria-label": "Colour of the tokens" }, columns.map(([name], index) => element("option", { value: index }, name)));
  const paint = () => {
    const [, meaning, values, kind] = columns[Number(chooser.value)];
    const most = largest(values, kind);
    spans.forEach((span, at) => { span.style.background = tint(values[at], kind, most); });
    legend.replaceChildren(...scaleLegend(meaning, kind, most, values));
  };
  chooser.addEventListener("input", paint);
  if (position !== null && columns.length > 1) chooser.value = String(Math.max(0, columns.findIndex(([name]) => name === "trainer − engine")));
  if (columns.length) paint();
  const tip = tokenTip();
  const point = (event) => {
    const at = event.target.dataset ? event.target.dataset.at : undefined;
    if (at === undefined) { tip.hide(); return; }
    tip.show(event.target, [["token", text(at) === null ? `#${tokens.ids[at]}` : `${visibleText(text(at))}  #${tokens.ids[at]}`], ["position", `${Number(at) + 1} of ${length}`], ...numbersOf(columns, at, sampled)]);
  };
  field.addEventListener("pointerover", point);
  field.addEventListener("click", point);
  field.addEventListener("pointerleave", () => tip.hide());
  if (position !== null && spans[position]) setTimeout(() => { field.scrollTop = spans[position].offsetTop - field.offsetTop - 60; });
  const notes = [
    vocabulary === null ? "no tokenizer of the run was found: these are token ids" : "",
    learned && learned.some((value) => !value) ? "faded: outside the loss" : "", sampled && sampled.some((value) => !value) ? "in italics: not sampled" : "",
  ].filter(Boolean).join("; ");
  return element("div", { class: "by-token" }, element("div", { class: "head" }, element("h3", {}, "Token by token"), columns.length ? element("label", { class: "soft" }, "colour ", chooser) : null),
    notes ? element("div", { class: "note" }, notes) : null, field, legend, tip.made);
}

/* What the strongest colour stands for. A single extreme must not make all others pale: the 98 % point. */
function largest(values, kind) {
  const sizes = values.filter((value) => value !== null).map((value) => Math.abs(kind === "ratio" ? Math.log(Math.max(value, 1e-9)) : value)).sort((a, b) => a - b);
  return sizes.length ? sizes[Math.floor(0.98 * (sizes.length - 1))] || sizes[sizes.length - 1] : 0;
}

function tint(value, kind, most) {
  if (value === null || !most) return "transparent";
  const size = kind === "ratio" ? Math.log(Math.max(value, 1e-9)) : value;
  const share = Math.min(1, Math.abs(size) / most), low = kind === "down" || ((kind === "signed" || kind === "ratio") && size < 0);
  return `color-mix(in srgb, var(--${low ? "low" : "high"}) ${(66 * share).toFixed(0)}%, transparent)`;
}

function scaleLegend(meaning, kind, most, values) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return [element("span", {}, meaning)];
  const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
  const ends = kind === "ratio" ? [Math.exp(-most), Math.exp(most)] : kind === "signed" ? [-most, most] : kind === "down" ? [-most, 0] : [0, most];
  const number = (value) => plain(+value.toPrecision(3));
  const swatch = element("span", { class: `swatch ${kind === "ratio" ? "signed" : kind}` });
  const range = low === high ? `all ${number(low)}` : `here ${number(low)} to ${number(high)}`;
  return most ? [element("span", {}, number(ends[0])), swatch, element("span", {}, number(ends[1])), element("span", { class: "soft" }, `${meaning}; ${range}`)]
    : [element("span", { class: "soft" }, `${meaning}; ${range}`)];
}

function numbersOf(columns, at, sampled) {
  const rows = columns.map(([name, , values, kind]) => {
    const value = values[at];
    if (name === "loss mask") return ["in the loss", value ? "yes" : "no"];
    if (name === "log-prob" && value !== null) return [name, `${signed(value)} (${formatted(Math.exp(value), "share")})`];
    return [name, value === null ? "–" : kind === "signed" ? signed(value) : plain(+value.toPrecision(4))];
  });
  return sampled && !sampled[at] ? [...rows, ["sampled", "no"]] : rows;
}

/* A table beside the token under the pointer. */
function tokenTip() {
  const made = element("div", { class: "tip", hidden: true, role: "status" });
  const show = (target, rows) => {
    made.replaceChildren(...rows.map(([name, value]) => element("div", {}, element("span", {}, name), element("b", {}, value))));
    made.hidden = false;
    const box = target.getBoundingClientRect(), width = made.offsetWidth, height = made.offsetHeight;
    made.style.left = `${Math.max(6, Math.min(innerWidth - width - 6, box.left))}px`;
    made.style.top = `${box.bottom + height + 8 > innerHeight ? Math.max(6, box.top - height - 6) : box.bottom + 6}px`;
  };
  return { made, show, hide: () => { made.hidden = true; } };
}
