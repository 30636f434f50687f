/* Puts the page together from the data that it carries. */

/* Fill a section, or take it away when there is nothing to show. */
function fill(id, children, { folded = false, remark = "" } = {}) {
  const section = document.getElementById(id), shown = children.filter(Boolean), title = section.dataset.title;
  if (!shown.length) { section.remove(); return; }
  const grid = element("div", { class: "grid" }, shown);
  if (folded) section.append(element("details", {}, element("summary", {}, element("h2", {}, title)), grid));
  else section.append(element("h2", {}, title, remark ? element("small", {}, remark) : null), grid);
  document.getElementById("nav").append(element("a", { href: `#${id}` }, section.dataset.short || title));
}

function buildPage(data) {
  const { runs } = data, one = runs.length === 1;
  prepareCharts(data);
  const group = (name) => data.charts.filter((chart) => chart.group === name).map((chart) => chartCard(chart, data));
  header(runs);
  const tiles = document.getElementById("tiles");
  if (one) {
    // Rows of equal length where the window is wide enough.
    const shown = runs[0].tiles, rows = Math.ceil(shown.length / 6);
    tiles.style.setProperty("--columns", Math.max(4, Math.ceil(shown.length / Math.max(1, rows))));
    tiles.append(...shown.map(tile));
  }
  else { const table = tileTable(runs); tiles.className = ""; if (table) tiles.append(table); }
  const nothing = data.charts.length ? null : element("p", { class: "empty" }, runs.every((run) => run.status === "finished") ? "No metrics were recorded." : "No step has finished yet: there are no curves to draw.");
  const isLong = data.charts.some((chart) => chart.series.some((s) => isSmoothed(chart, s)));
  if (data.charts.length) buildToolbar(runs, isLong);
  const [first, ...others] = group("learning"), validations = runs.map((run) => validationCard(run, one));
  const charts = one ? [first, ...validations, ...others, distributionCard(runs)] : [first, ...others, distributionCard(runs), ...validations];
  fill("learning", [...charts, nothing], { remark: isLong ? "thin: each step; thick: mean of neighbouring steps; drag over a chart to see a stretch" : "" });
  const browser = runs.some((run) => run.answers.count) ? answerBrowser(runs) : null;
  fill("answers", [browser && browser.made]);
  fill("stability", group("stability"));
  fill("mismatch", mismatchCards(runs, group("mismatch"), (...place) => browser && browser.open && browser.open(...place)));
  fill("speed", [...group("speed"), ...runs.map((run) => (run.stages.length ? stageBars(run, !one) : null))]);
  fill("other", group("other"), { folded: true });
  fill("settings", [data.settings.length ? settingsCard(data.settings, runs) : null]);
  fill("messages", runs.map((run) => messagesCard(run, one)));
  fill("software", [softwareCard(runs)]);
  document.documentElement.dataset.ready = "page";
  if (browser) browser.ready.then(() => { document.documentElement.dataset.ready = "answers"; });
}

buildPage(JSON.parse(document.getElementById("data").textContent));
