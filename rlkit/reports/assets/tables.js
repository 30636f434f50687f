/* Key numbers, validations, settings, warnings, software. */
const STATUS = { running: "running, or killed" };
const VERDICTS = { better: "better", worse: "worse", "not distinguishable": "no clear difference" };

function header(runs) {
  const place = document.getElementById("header");
  if (runs.length === 1) { place.append(...runHeader(runs[0])); return; }
  const head = element("tr", {}, ["run", "kind", "status", "steps", "started", "took", "model"].map((name) => element("th", { class: name === "steps" ? "number" : "" }, name)));
  const rows = runs.map((run, number) => element("tr", { style: `--c: ${colour(number)}` },
    element("td", {}, element("span", { class: "name dot" }, run.label)), element("td", {}, run.kind), element("td", {}, badge(run)), element("td", { class: "number" }, run.steps.toLocaleString("en")),
    element("td", {}, started(run)), element("td", {}, duration(run.duration_s)), element("td", { class: "value" }, run.model || "")));
  place.append(element("div", { class: "title" }, element("h1", {}, `${runs.length} runs`)), element("div", { class: "card scroll" }, element("table", { class: "runs-table" }, element("thead", {}, head), element("tbody", {}, rows))),
    ...runs.filter((run) => run.error).map((run) => element("p", { class: "problem" }, `${run.label}: ${run.error}`)));
}

const started = (run) => (run.started ? new Date(run.started).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "");
const badge = (run) => (run.status ? element("span", { class: `badge ${run.status}` }, STATUS[run.status] || run.status) : null);

function runHeader(run) {
  const fact = (name, value) => (value === null || value === undefined || value === "" ? null : element("span", {}, `${name} `, element("b", {}, String(value))));
  const facts = [
    fact("model", run.model), fact("steps", run.steps ? run.steps.toLocaleString("en") : ""), fact("started", started(run)), fact("took", duration(run.duration_s)),
    fact("resumed", run.resumed ? (run.resumed === 1 ? "once" : `${run.resumed} times`) : ""), fact("seed", run.seed), fact("device", run.device),
  ];
  const title = element("div", { class: "title" }, element("h1", {}, run.label), run.kind ? element("span", { class: "badge" }, run.kind) : null, badge(run));
  return [title, element("p", { class: "facts" }, facts), run.error ? element("p", { class: "problem" }, run.error) : null].filter(Boolean);
}

function tile(t) {
  const before = t.before === null ? "" : `from ${formatted(t.before, t.unit)}`, bounds = interval(t.low, t.high, t.unit);
  return element("div", { class: "tile" }, element("div", { class: "label" }, t.label),
    element("div", { class: "now" }, formatted(t.now, t.unit), element("small", {}, unitName(t.unit))),
    element("div", { class: "range" }, before, bounds ? element("span", { title: "95 % interval" }, bounds) : null),
    element("div", { class: "note" }, t.note));
}

/* The same numbers of several runs, a column each. */
function tileTable(runs) {
  const labels = [...new Set(runs.flatMap((run) => run.tiles.map((t) => t.label)))];
  if (!labels.length) return null;
  const head = element("tr", {}, element("th", {}), runs.map((run, number) => element("th", { style: `--c: ${colour(number)}` }, element("span", { class: "name dot" }, run.label))));
  const rows = labels.map((label) => {
    const cells = runs.map((run) => {
      const t = run.tiles.find((one) => one.label === label);
      if (!t) return element("td", { class: "origin" }, "–");
      const small = [t.before === null ? "" : `from ${formatted(t.before, t.unit)}`, interval(t.low, t.high, t.unit)].filter(Boolean).join(", ");
      return element("td", {}, element("b", {}, `${formatted(t.now, t.unit)} ${unitName(t.unit)}`), small ? element("div", { class: "note" }, small) : null);
    });
    return element("tr", {}, element("th", { scope: "row" }, label), cells);
  });
  return element("div", { class: "card wide scroll" }, element("table", { class: "numbers" }, element("thead", {}, head), element("tbody", {}, rows)));
}

function validationCard(run, isOne) {
  const rows = run.validations;
  if (!rows.length) return null;
  const scored = rows.some((row) => row.score !== null), several = [...new Set(rows.flatMap((row) => Object.keys(row.several)))];
  const names = ["step", scored ? "score" : "loss", scored ? "95 % interval" : "", ...several.map((name) => name.replace("_at_", "@")), scored ? "answer length" : "", scored ? "prompts" : "", scored && rows.length > 1 ? "against the first" : ""];
  const cells = rows.map((row) => [
    row.step.toLocaleString("en"), evenDigits(scored ? row.score : row.loss), interval(row.low, row.high, ""), ...several.map((name) => evenDigits(row.several[name])),
    scored ? formatted(row.length, "tokens") : "", row.prompts ? row.prompts.toLocaleString("en") : "", row.against_first ? VERDICTS[row.against_first] : "",
  ]);
  const body = rows.map((row, at) => element("tr", { class: row.best ? "best" : "" }, cells[at].map((cell, column) => (names[column] ? element("td", { class: names[column].startsWith("against") ? "" : "number" }, cell) : null)), element("td", {}, row.best ? element("span", { class: "badge finished" }, "best") : null)));
  return element("div", { class: "card wide" }, element("div", { class: "head" }, element("h3", {}, isOne ? "Validations" : `Validations: ${run.label}`)),
    element("div", { class: "note" }, "a difference is clear when the intervals do not touch"),
    element("div", { class: "scroll tall" }, element("table", { class: "validations" }, element("thead", {}, element("tr", {}, names.filter(Boolean).map((name) => element("th", { class: name.startsWith("against") ? "" : "number" }, name)), element("th", {}))), element("tbody", {}, body))));
}

function settingsCard(rows, runs) {
  const one = runs.length === 1, body = element("tbody"), all = element("input", { type: "checkbox", id: "all-settings" });
  const wanted = (row) => (one ? row.origins[0] !== "default" : row.differs);
  const search = element("input", { type: "search", placeholder: "search settings", "aria-label": "Search settings" });
  const update = () => {
    const word = search.value.toLowerCase();
    const shown = rows.filter((row) => (all.checked || word || wanted(row)) && (!word || `${row.key} ${row.values.join(" ")}`.toLowerCase().includes(word)));
    body.replaceChildren(...shown.map((row) => element("tr", { class: wanted(row) ? "" : "default" }, element("td", { class: "key" }, row.key),
      row.values.map((value) => element("td", { class: "value" }, value)), one ? element("td", { class: "origin" }, row.origins[0]) : null)));
    if (!shown.length) body.append(element("tr", {}, element("td", { class: "origin", colspan: runs.length + 2 }, word ? "No setting matches." : one ? "Everything is a default." : "The runs have the same settings.")));
  };
  for (const control of [all, search]) control.addEventListener("input", update);
  update();
  const names = one ? ["key", "value", "from"] : ["key", ...runs.map((run, number) => element("span", { class: "name dot", style: `--c: ${colour(number)}` }, run.label))];
  const others = rows.filter((row) => !wanted(row)).length.toLocaleString("en");
  return element("div", { class: "card wide" },
    element("div", { class: "controls" }, element("label", { for: "all-settings" }, all, one ? ` show the ${others} defaults too` : ` show the ${others} that are the same too`), search),
    element("div", { class: "scroll tall" }, element("table", {}, element("thead", {}, element("tr", {}, names.map((name) => element("th", {}, name)))), body)));
}

function messagesCard(run, isOne) {
  if (!run.messages.length) return null;
  const rows = run.messages.map((message) => element("div", { class: `message ${message.level.toLowerCase()}` },
    element("div", { class: "facts" }, element("b", {}, message.level.toLowerCase()), element("span", {}, message.count > 1 ? `${message.count.toLocaleString("en")} times, ${message.first} to ${message.last}` : message.first)), element("pre", {}, message.text)));
  return element("div", { class: "card wide" }, isOne ? null : element("div", { class: "head" }, element("h3", {}, run.label)), rows);
}

function softwareCard(runs) {
  const named = runs.map((run) => new Map([
    ...run.plugins.map((p) => [`${String(p.kind).replace(/_/g, " ")}: ${p.name}`, [p.distribution, p.version].filter(Boolean).join(" ")]),
    ...Object.entries(run.versions), ...(run.command ? [["command", run.command]] : []),
  ]));
  const keys = [...new Set(named.flatMap((map) => [...map.keys()]))];
  if (!keys.length) return null;
  const rows = keys.map((key) => {
    const values = named.map((map) => map.get(key) || "–");
    return element("tr", { class: new Set(values).size > 1 && key !== "command" ? "differs" : "" }, element("td", { class: "origin" }, key), values.map((value) => element("td", { class: "value" }, value)));
  });
  const head = runs.length > 1 ? element("thead", {}, element("tr", {}, element("th", {}), runs.map((run, number) => element("th", { style: `--c: ${colour(number)}` }, element("span", { class: "name dot" }, run.label))))) : null;
  return element("div", { class: "card wide" }, element("div", { class: "scroll" }, element("table", {}, head, element("tbody", {}, rows))));
}
