/* Curves as SVG. Pointing at one chart moves the cursor of all of them to the same step. */
const HEIGHT = 190, RIGHT = 14, TOP = 10, BOTTOM = 24;
const SMOOTHED_FROM = 40;
const cursors = [];
const isSmoothed = (chart, s) => !chart.markers && chart.kind === "lines" && s.x.length >= SMOOTHED_FROM;
const colour = (index) => `var(--c${index % 8})`;

function showStep(step) { cursors.forEach((show) => show(step)); }

/* domain: first and last step of the whole run, so that all charts have one horizontal axis. */
function chartCard(chart, domain) {
  const place = element("div", { class: "plot", style: `height: ${HEIGHT}px` });
  const legend = element("div", { class: "legend" });
  const at = element("span", { class: "at" });
  const [first, last] = domain;
  const steps = [...new Set(chart.series.flatMap((s) => s.x))].sort((a, b) => a - b);
  let moveCursor = () => {};
  const values = chart.series.map((s, index) => {
    const value = element("b", {});
    const key = element("span", { class: "key", style: `--c: ${colour(index)}` }, element("span", { class: "name" }, s.name), value);
    legend.append(key);
    return value;
  });
  const unit = unitName(chart.unit);
  const show = (step) => {
    const shown = steps[step === null ? steps.length - 1 : nearest(steps, step)];
    at.textContent = `${unit ? `${unit}, ` : ""}step ${shown.toLocaleString("en")}`;
    chart.series.forEach((s, index) => { values[index].textContent = legendText(chart, s, nearest(s.x, shown)); });
    moveCursor(step === null ? null : shown);
  };
  cursors.push(show);
  const draw = (width) => {
    const picture = drawPlot(chart, width, first, last);
    moveCursor = picture.moveCursor;
    const follow = (event) => showStep(picture.stepAt(event.clientX));
    for (const kind of ["pointermove", "pointerdown"]) picture.svg.addEventListener(kind, follow);
    picture.svg.addEventListener("pointerleave", () => showStep(null));
    place.replaceChildren(picture.svg);
  };
  show(null);
  const head = element("div", { class: "head" }, element("h3", {}, chart.title), at);
  return responsive(element("div", { class: "card" }, head, element("div", { class: "note" }, chart.note), place, legend), place, draw);
}

function legendText(chart, s, at) {
  const bounds = chart.markers && s.low && s.low[at] !== undefined && s.low[at] !== null
    ? ` (${formatted(s.low[at], chart.unit)} to ${formatted(s.high[at], chart.unit)})` : "";
  return formatted(s.y[at], chart.unit) + bounds;
}

function drawPlot(chart, width, first, last) {
  const stack = chart.kind === "stack";
  const series = stack ? stacked(chart.series) : chart.series;
  const known = series.flatMap((s) => [...s.y, ...(s.low || []), ...(s.high || [])]).filter((v) => v !== null);
  const [low, high, ticks, gap] = axis(known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b)), chart.unit);
  const labels = ticks.map((tick) => tickLabel(tick, chart.unit, gap));
  const left = 10 + 6.3 * Math.max(...labels.map((label) => label.length)), room = width - left - RIGHT;
  const x = (step) => left + (last === first ? 0.5 : (step - first) / (last - first)) * room;
  const y = (value) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const svg = element("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": `${chart.title}: ${chart.note}` });
  ticks.forEach((tick, at) => {
    svg.append(element("line", { class: "grid", x1: left, x2: width - RIGHT, y1: y(tick), y2: y(tick) }));
    svg.append(element("text", { x: left - 7, y: y(tick) + 4, "text-anchor": "end" }, labels[at]));
  });
  for (const step of stepTicks(first, last, room)) {
    svg.append(element("text", { x: x(step), y: HEIGHT - 6, "text-anchor": "middle" }, step.toLocaleString("en")));
  }
  series.forEach((s, index) => (stack ? drawLayer(svg, s, index, x, y) : drawCurve(svg, s, index, x, y, chart)));
  const cursor = element("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  const dots = series.map((s, index) => element("circle", { class: "dot", r: 3.6, fill: colour(index), visibility: "hidden" }));
  svg.append(cursor, ...dots);
  const moveCursor = (step) => {
    cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    if (step !== null) for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(step));
    series.forEach((s, index) => {
      const at = step === null ? 0 : nearest(s.x, step), value = s.y[at];
      const visible = step !== null && value !== null && value !== undefined;
      dots[index].setAttribute("visibility", visible ? "visible" : "hidden");
      if (visible) { dots[index].setAttribute("cx", x(s.x[at])); dots[index].setAttribute("cy", y(value)); }
    });
  };
  const stepAt = (clientX) => first + ((clientX - svg.getBoundingClientRect().left - left) / room) * (last - first);
  return { svg, moveCursor, stepAt };
}

function drawLayer(svg, s, index, x, y) {
  const upper = s.x.map((step, at) => `${x(step).toFixed(2)},${y(s.y[at]).toFixed(2)}`);
  const lower = s.x.map((step, at) => `${x(step).toFixed(2)},${y(s.floor[at]).toFixed(2)}`).reverse();
  svg.append(element("path", { d: `M${[...upper, ...lower].join("L")}Z`, fill: colour(index), "fill-opacity": 0.8, stroke: colour(index), "stroke-width": s.x.length > 1 ? 0 : 6 }));
}

/* A long curve is drawn twice: thin as it is, thick as the mean of neighbouring steps. */
function drawCurve(svg, s, index, x, y, chart) {
  const markers = chart.markers;
  const bounded = s.low && s.low.length > 0;
  if (bounded && !markers && s.x.length > 1) {
    const upper = s.x.map((step, at) => `${x(step).toFixed(2)},${y(s.high[at]).toFixed(2)}`);
    const lower = s.x.map((step, at) => `${x(step).toFixed(2)},${y(s.low[at]).toFixed(2)}`).reverse();
    svg.append(element("path", { d: `M${[...upper, ...lower].join("L")}Z`, fill: colour(index), "fill-opacity": 0.13 }));
  }
  const isLong = isSmoothed(chart, s);
  const line = { fill: "none", stroke: colour(index), "stroke-linejoin": "round", "stroke-linecap": "round" };
  svg.append(element("path", { d: linePath(s.x, s.y, x, y), ...line, "stroke-width": isLong ? 1 : 1.9, "stroke-opacity": isLong ? (s.x.length > 400 ? 0.22 : 0.35) : 1 }));
  if (isLong) svg.append(element("path", { d: linePath(s.x, smoothed(s.y, Math.round(s.x.length / 24)), x, y), ...line, "stroke-width": 2.1 }));
  if (!markers && s.x.length > 1) return;
  s.x.forEach((step, at) => {
    if (s.y[at] === null) return;
    if (bounded && s.low[at] !== null) {
      svg.append(element("line", { x1: x(step), x2: x(step), y1: y(s.low[at]), y2: y(s.high[at]), stroke: colour(index), "stroke-width": 1.4, "stroke-opacity": 0.6 }));
    }
    svg.append(element("circle", { cx: x(step), cy: y(s.y[at]), r: 3.2, fill: colour(index) }));
    if (index === 0 && step === chart.ring) {
      svg.append(element("circle", { class: "ring", cx: x(step), cy: y(s.y[at]), r: 7, fill: "none", stroke: colour(index), "stroke-width": 1.6 }));
    }
  });
}

function linePath(steps, values, x, y) {
  let path = "", pen = "M";
  steps.forEach((step, at) => {
    if (values[at] === null) { pen = "M"; return; }
    path += `${pen}${x(step).toFixed(2)},${y(values[at]).toFixed(2)}`;
    pen = "L";
  });
  return path;
}

function stacked(series) {
  const sums = series[0].x.map(() => 0);
  return series.map((s) => {
    const floor = [...sums];
    s.y.forEach((value, at) => { sums[at] += value || 0; });
    return { ...s, floor, y: [...sums], low: [], high: [] };
  });
}

/* Where the time went over the whole run, a bar for each stage. */
function stageBars(stages) {
  const total = stages.reduce((sum, stage) => sum + stage.seconds, 0);
  const bars = stages.map((stage, index) => [
    element("span", { class: "name" }, stage.name),
    element("span", { class: "bar" }, element("span", { style: `width: ${((100 * stage.seconds) / total).toFixed(2)}%; background: ${colour(index)}` })),
    element("b", {}, `${+((100 * stage.seconds) / total).toPrecision(2)} %`),
    element("span", { class: "spent" }, seconds(stage.seconds)),
  ]);
  return element("div", { class: "card" }, element("div", { class: "head" }, element("h3", {}, "Where the time went")),
    element("div", { class: "note" }, `${seconds(total)} in steps, validation and checkpoints aside`), element("div", { class: "bars" }, bars));
}
