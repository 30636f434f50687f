/* Puts the page together from the data that it carries. */
const STATUS = { running: "running, or killed" };

function header(run) {
  const fact = (name, value) => (value === null || value === undefined || value === "" ? null : element("span", {}, `${name} `, element("b", {}, String(value))));
  const started = run.started ? new Date(run.started).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "";
  const facts = [
    fact("model", run.model), fact("steps", run.steps ? run.steps.toLocaleString("en") : ""), fact("started", started), fact("took", duration(run.duration_s)),
    fact("resumed", run.resumed ? (run.resumed === 1 ? "once" : `${run.resumed} times`) : ""), fact("seed", run.seed), fact("device", run.device),
  ];
  const title = element("div", { class: "title" }, element("h1", {}, run.name),
    run.kind ? element("span", { class: "badge" }, run.kind) : null,
    run.status ? element("span", { class: `badge ${run.status}` }, STATUS[run.status] || run.status) : null);
  document.getElementById("header").append(title, element("p", { class: "facts" }, facts));
  if (run.error) document.getElementById("header").append(element("p", { class: "problem" }, run.error));
}

function tile(t) {
  const interval = (low, high) => (low === null || high === null ? "" : `${formatted(low, t.unit)} to ${formatted(high, t.unit)}`);
  const before = t.before === null ? "" : `from ${formatted(t.before, t.unit)}`;
  return element("div", { class: "tile" }, element("div", { class: "label" }, t.label),
    element("div", { class: "now" }, formatted(t.now, t.unit), element("small", {}, unitName(t.unit))),
    element("div", { class: "range" }, before, interval(t.low, t.high) ? element("span", { title: "95 % interval" }, interval(t.low, t.high)) : null),
    element("div", { class: "note" }, t.note));
}

function settings(rows) {
  const body = element("tbody");
  const all = element("input", { type: "checkbox", id: "all-settings" });
  const update = () => {
    const shown = rows.filter((row) => all.checked || row.origin !== "default");
    body.replaceChildren(...shown.map((row) => element("tr", { class: row.origin === "default" ? "default" : "" },
      element("td", { class: "key" }, row.key), element("td", { class: "value" }, row.value), element("td", { class: "origin" }, row.origin))));
    if (!shown.length) body.append(element("tr", {}, element("td", { class: "origin", colspan: 3 }, "Everything is a default.")));
  };
  all.addEventListener("input", update);
  update();
  const head = element("tr", {}, ["key", "value", "from"].map((name) => element("th", {}, name)));
  return element("div", { class: "card wide" },
    element("div", { class: "controls" }, element("label", { for: "all-settings" }, all, ` show the ${rows.filter((row) => row.origin === "default").length} defaults too`)),
    element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), body)));
}

function software(run) {
  const rows = [
    ...run.plugins.map((p) => [p.kind.replace(/_/g, " "), p.name, [p.distribution, p.version].filter(Boolean).join(" ")]),
    ...Object.entries(run.versions).map(([name, version]) => ["package", name, version]),
    ...(run.command ? [["command", run.command, ""]] : []),
  ];
  if (!rows.length) return null;
  return element("div", { class: "card wide" }, element("div", { class: "scroll" }, element("table", {}, element("tbody", {},
    rows.map(([kind, name, version]) => element("tr", {}, element("td", { class: "origin" }, kind), element("td", { class: "value", colspan: version ? 1 : 2 }, name), version ? element("td", { class: "value" }, version) : null))))));
}

/* Fill a section, or take it away when there is nothing to show. */
function fill(id, children, { folded = false, remark = "" } = {}) {
  const section = document.getElementById(id), shown = children.filter(Boolean), title = section.dataset.title;
  if (!shown.length) { section.remove(); return; }
  const grid = element("div", { class: "grid" }, shown);
  if (folded) section.append(element("details", {}, element("summary", {}, element("h2", {}, title)), grid));
  else section.append(element("h2", {}, title, remark ? element("small", {}, remark) : null), grid);
  document.getElementById("nav").append(element("a", { href: `#${id}` }, title));
}

function buildPage(data) {
  const every = data.charts.flatMap((chart) => chart.series.flatMap((s) => [s.x[0], s.x[s.x.length - 1]]));
  const domain = [every.reduce((a, b) => Math.min(a, b), Infinity), every.reduce((a, b) => Math.max(a, b), -Infinity)];
  const group = (name) => data.charts.filter((chart) => chart.group === name).map((chart) => chartCard(chart, domain));
  header(data.run);
  document.getElementById("tiles").append(...data.tiles.map(tile));
  const learning = [...group("learning"), data.distribution ? distributionCard(data.distribution) : null];
  const nothing = data.charts.length ? null : element("p", { class: "empty" }, data.run.status === "finished" ? "This run has recorded no metrics." : "No step has finished yet: there are no curves to draw.");
  const isLong = data.charts.some((chart) => chart.series.some((s) => isSmoothed(chart, s)));
  fill("learning", [...learning, nothing], { remark: isLong ? "thin: each step; thick: mean of neighbouring steps" : "" });
  fill("answers", [data.answers.length ? answerBrowser(data.answers) : null]);
  fill("stability", group("stability"));
  fill("speed", [...group("speed"), data.stages.length ? stageBars(data.stages) : null]);
  fill("other", group("other"), { folded: true });
  fill("settings", [data.config.length ? settings(data.config) : null]);
  fill("software", [software(data.run)]);
}

buildPage(JSON.parse(document.getElementById("data").textContent));
