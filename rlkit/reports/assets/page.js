/* Puts the page together from the data that it carries. */
const data = JSON.parse(document.getElementById("data").textContent);

function header(run) {
  const fact = (name, value) => (value === null || value === undefined || value === "" ? null : element("span", {}, `${name} `, element("b", {}, String(value))));
  const started = run.started ? new Date(run.started).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "";
  const facts = [
    fact("model", run.model), fact("steps", run.steps || ""), fact("started", started), fact("took", duration(run.duration_s)),
    fact("resumed", run.resumed ? `${run.resumed} times`.replace("1 times", "once") : ""), fact("seed", run.seed), fact("device", run.device),
  ];
  const parts = [
    element("h1", {}, run.name), element("span", { class: "badge" }, run.kind), element("span", { class: `badge ${run.status}` }, run.status),
    element("p", { class: "facts" }, facts.filter(Boolean)),
    run.error ? element("p", { class: "problem" }, run.error) : null,
  ];
  document.getElementById("header").append(...parts.filter(Boolean));
}

function tile(t) {
  const interval = (low, high) => (low === null || high === null ? "" : ` (${formatted(low, t.unit)} to ${formatted(high, t.unit)})`);
  const before = t.before === null ? "" : `from ${formatted(t.before, t.unit)}${interval(t.before_low, t.before_high)}`;
  return element("div", { class: "tile" }, element("div", { class: "label" }, t.label),
    element("div", { class: "now" }, formatted(t.now, t.unit), element("small", {}, unitName(t.unit))),
    element("div", { class: "note" }, interval(t.low, t.high).trim()),
    element("div", { class: "note" }, [before, t.note].filter(Boolean).join(", ")));
}

function settings(rows) {
  const body = element("tbody");
  const all = element("input", { type: "checkbox", id: "all-settings" });
  const update = () => {
    const shown = rows.filter((row) => all.checked || row.origin !== "default");
    body.replaceChildren(...shown.map((row) => element("tr", { class: row.origin === "default" ? "default" : "" },
      element("td", { class: "key" }, row.key), element("td", { class: "value" }, row.value), element("td", { class: "origin" }, row.origin))));
  };
  all.addEventListener("input", update);
  update();
  const head = element("tr", {}, ["key", "value", "from"].map((name) => element("th", {}, name)));
  return element("div", { class: "card" },
    element("div", { class: "controls" }, element("label", { for: "all-settings" }, all, " show defaults too")),
    element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), body)));
}

function footer(run) {
  const versions = Object.entries(run.versions).map(([name, version]) => `${name} ${version}`).join(" · ");
  const plugins = run.plugins.map((p) => `${p.kind.replace("_", " ")} ${p.name} (${[p.distribution, p.version].filter(Boolean).join(" ")})`).join(" · ");
  const lines = [run.command, plugins, versions].filter(Boolean);
  document.getElementById("footer").append(...lines.map((line) => element("p", {}, line)));
}

header(data.run);
document.getElementById("tiles").append(...data.tiles.map(tile));
document.getElementById("charts").append(...data.charts.map(drawChart));
if (!data.charts.length) document.getElementById("charts").append(element("p", { class: "empty" }, "No step has finished yet."));
if (data.distribution) {
  document.getElementById("distribution-section").hidden = false;
  document.getElementById("distribution").append(drawDistribution(data.distribution));
}
if (data.answers.length) {
  document.getElementById("answers-section").hidden = false;
  document.getElementById("answers").append(answerBrowser(data.answers));
}
document.getElementById("config").append(settings(data.config));
footer(data.run);
