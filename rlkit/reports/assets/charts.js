/* A card for each chart. Pointing at one moves the cursor of all of them; dragging over one shows that stretch in all. */
const cursors = [];

function showAt(place) { cursors.forEach((show) => show(place)); }

/* Gives every series its colour: by name in a single run, by run where there are several (the names then differ in dashes). */
function prepareCharts(data) {
  const several = data.runs.length > 1;
  for (const chart of data.charts) {
    const names = [...new Set(chart.series.map((s) => s.name))];
    chart.names = names;
    for (const s of chart.series) {
      s.colour = colour(several ? s.run : names.indexOf(s.name));
      s.dash = several ? DASHES[names.indexOf(s.name) % DASHES.length] : "";
      s.seconds = secondsAt(data.runs[s.run].clock, s.x);
    }
  }
}

/* First and last place of all charts, so that they have one horizontal axis. */
function domainOf(charts) {
  const ends = charts.flatMap((chart) => chart.series.filter((s) => !view.hidden.has(s.run)).flatMap((s) => { const at = placesOf(s); return at.length ? [at[0], at[at.length - 1]] : []; }));
  return ends.length ? [ends.reduce((a, b) => Math.min(a, b)), ends.reduce((a, b) => Math.max(a, b))] : [0, 1];
}

function chartCard(chart, data) {
  const place = element("div", { class: "plot", style: `height: ${HEIGHT}px` });
  const at = element("span", { class: "at" });
  const expand = element("button", { type: "button", class: "expand", title: "larger", "aria-label": `${chart.title}: larger` }, "⤢");
  const visible = () => chart.series.filter((s) => !view.hidden.has(s.run));
  const legend = data.runs.length > 1 ? runLegend(chart, data.runs) : seriesLegend(chart);
  const unit = unitName(chart.unit);
  let picture = null;
  const show = (wanted) => {
    const shown = visible().map((s) => placesOf(s)).filter((places) => places.length);
    if (!shown.length) { at.textContent = ""; return; }
    const last = shown.reduce((most, places) => Math.max(most, places[places.length - 1]), -Infinity);
    const target = wanted === null ? Math.min(last, view.zoom ? view.zoom[1] : last) : wanted;
    const near = shown.map((places) => places[nearest(places, target)]).reduce((a, b) => (Math.abs(b - target) < Math.abs(a - target) ? b : a));
    const where = view.axis === "time" ? `after ${clockLabel(near)}` : `step ${near.toLocaleString("en")}`;
    at.textContent = [unit, where, picture && view.log && !picture.isLog ? "linear: not above zero" : ""].filter(Boolean).join(", ");
    legend.show(near);
    if (picture) picture.moveCursor(wanted === null ? null : near);
  };
  cursors.push(show);
  const draw = (width) => {
    picture = drawPlot(chart, visible(), width, parseInt(place.style.height, 10), domainOf(data.charts));
    follow(picture);
    place.replaceChildren(picture.svg);
    show(null);
  };
  expand.addEventListener("click", () => {
    const wide = card.classList.toggle("large");
    place.style.height = `${wide ? TALL : HEIGHT}px`;
    expand.textContent = wide ? "⤡" : "⤢";
    redraw();
  });
  show(null);
  const head = element("div", { class: "head" }, element("h3", {}, chart.title), at, expand);
  const card = element("div", { class: "card" }, head, element("div", { class: "note" }, chart.note), place, legend.made);
  return responsive(card, place, draw);
}

/* Pointer: move the cursors; a drag picks a stretch; a double click shows the whole again. */
function follow(picture) {
  let from = null;
  const { svg } = picture;
  svg.addEventListener("pointerdown", (event) => { from = picture.placeAt(event.clientX); showAt(from); });
  svg.addEventListener("pointermove", (event) => {
    const place = picture.placeAt(event.clientX);
    showAt(place);
    if (from !== null && event.buttons) picture.pick(from, place);
  });
  svg.addEventListener("pointerup", (event) => {
    const start = from, to = picture.placeAt(event.clientX);
    from = null;
    picture.pick(null);
    const least = Math.abs(picture.placeAt(event.clientX + 12) - to);
    if (start === null || Math.abs(to - start) < least) return;
    view.zoom = [Math.min(start, to), Math.max(start, to)];
    view.zoomed();
  });
  svg.addEventListener("pointerleave", () => { from = null; picture.pick(null); showAt(null); });
  svg.addEventListener("dblclick", () => { view.zoom = null; view.zoomed(); });
}

function valueAt(chart, s, place, withBounds) {
  const places = placesOf(s);
  if (!places.length) return "–";
  const at = nearest(places, place);
  const bounds = withBounds && chart.markers && s.low && s.low.length ? interval(s.low[at], s.high[at], chart.unit) : "";
  return formatted(s.y[at], chart.unit) + (bounds && ` (${bounds})`);
}

function seriesLegend(chart) {
  const values = chart.series.map(() => element("b", {}));
  const made = element("div", { class: "legend" }, chart.series.map((s, index) =>
    element("span", { class: "key", style: `--c: ${s.colour}` }, element("span", { class: "name" }, s.name), values[index])));
  return { made, show: (place) => chart.series.forEach((s, index) => { values[index].textContent = valueAt(chart, s, place, true); }) };
}

/* A row for each run, a column for each of the chart's curves. */
function runLegend(chart, runs) {
  const rows = runs.map((run, number) => ({ number, series: chart.names.map((name) => chart.series.find((s) => s.run === number && s.name === name)) })).filter((row) => row.series.some(Boolean));
  const cells = rows.map((row) => row.series.map(() => element("td", {})));
  const bodies = rows.map((row, at) => element("tr", { style: `--c: ${colour(row.number)}` }, element("th", { scope: "row" }, element("span", { class: "name" }, runs[row.number].label)), cells[at]));
  const heads = chart.names.map((name, at) => element("th", { class: "column", scope: "col" }, DASHES[at % 4] ? element("svg", { width: 22, height: 6, class: "dash" }, element("line", { x1: 0, x2: 22, y1: 3, y2: 3, "stroke-dasharray": DASHES[at % 4] })) : null, ` ${name}`));
  const head = chart.names.length > 1 ? element("thead", {}, element("tr", {}, element("th", {}), heads)) : null;
  const made = element("div", { class: "legend scroll" }, element("table", { class: "by-run" }, head, element("tbody", {}, bodies)));
  const show = (place) => rows.forEach((row, at) => {
    bodies[at].hidden = view.hidden.has(row.number);
    row.series.forEach((s, column) => { cells[at][column].textContent = s ? valueAt(chart, s, place, chart.names.length === 1) : "–"; });
  });
  return { made, show };
}

/* Where the time went over the whole run, a bar for each stage. */
function stageBars(run, several) {
  const total = run.stages.reduce((sum, stage) => sum + stage.seconds, 0);
  const bars = run.stages.map((stage, index) => [
    element("span", { class: "name" }, stage.name),
    element("span", { class: "bar" }, element("span", { style: `width: ${((100 * stage.seconds) / total).toFixed(2)}%; background: ${colour(index)}` })),
    element("b", {}, `${+((100 * stage.seconds) / total).toPrecision(2)} %`),
    element("span", { class: "spent" }, seconds(stage.seconds)),
  ]);
  return element("div", { class: "card" }, element("div", { class: "head" }, element("h3", {}, several ? `Where the time went: ${run.label}` : "Where the time went")),
    element("div", { class: "note" }, `${seconds(total)} in steps, validation and checkpoints aside`), element("div", { class: "bars" }, bars));
}
