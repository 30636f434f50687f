/* One chart's picture as SVG. */
const HEIGHT = 190, TALL = 380, RIGHT = 14, TOP = 10, BOTTOM = 24;
const SMOOTHED_FROM = 40;
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
const isSmoothed = (chart, s) => !chart.markers && chart.kind === "lines" && s.x.length >= SMOOTHED_FROM && view.smoothing > 0;
const colour = (index) => `var(--c${index % 12})`;

/* Positions of a series on the present horizontal axis; empty where a run has no clock. */
function placesOf(s) { return view.axis === "time" ? s.seconds || [] : s.x; }

/* series: what is shown of chart.series. Returns the svg, how to move its cursor, and what lies under a pointer. */
function drawPlot(chart, shown, width, height, domain) {
  const series = (chart.kind === "stack" ? stacked(shown) : shown).map((s) => ({ ...s, at: placesOf(s) })).filter((s) => s.at.length);
  const [first, last] = view.zoom || domain;
  // The bands of several runs would hide one another.
  const isAlone = new Set(series.map((s) => s.run)).size === 1;
  const known = valuesWithin(series, first, last, isAlone || chart.markers);
  const [low, high, ticks, gap, isLog] = verticalAxis(known, chart);
  const labels = ticks.map((tick) => (isLog ? formatted(tick, chart.unit) : tickLabel(tick, chart.unit, gap)));
  const left = 10 + 6.3 * Math.max(1, ...labels.map((label) => label.length)), room = width - left - RIGHT;
  const scale = isLog ? Math.log : (value) => value;
  const x = (place) => left + (last === first ? 0.5 : (place - first) / (last - first)) * room;
  const y = (value) => TOP + (1 - (scale(isLog ? Math.max(value, low) : value) - scale(low)) / (scale(high) - scale(low))) * (height - TOP - BOTTOM);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${chart.title}: ${chart.note}` });
  ticks.forEach((tick, at) => {
    svg.append(element("line", { class: "grid", x1: left, x2: width - RIGHT, y1: y(tick), y2: y(tick) }));
    svg.append(element("text", { x: left - 7, y: y(tick) + 4, "text-anchor": "end" }, labels[at]));
  });
  horizontalTicks(svg, first, last, room, x, height, width);
  const inside = element("svg", { x: left - 9, y: 0, width: room + 18, height: height - BOTTOM + 9, viewBox: `${left - 9} 0 ${room + 18} ${height - BOTTOM + 9}`, class: "inside" });
  series.forEach((s) => (chart.kind === "stack" ? drawLayer(inside, s, x, y) : drawCurve(inside, s, x, y, chart, room, isAlone)));
  svg.append(inside);
  const cursor = element("line", { class: "cursor", y1: TOP, y2: height - BOTTOM, visibility: "hidden" });
  const dots = series.map((s) => element("circle", { class: "dot", r: 3.6, fill: s.colour, visibility: "hidden" }));
  const picked = element("rect", { class: "picked", y: TOP, height: height - TOP - BOTTOM, visibility: "hidden" });
  svg.append(picked, cursor, ...dots);
  const moveCursor = (place) => {
    const seen = place !== null && place >= first && place <= last;
    cursor.setAttribute("visibility", seen ? "visible" : "hidden");
    if (seen) for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(place));
    series.forEach((s, index) => {
      const at = seen ? nearest(s.at, place) : 0, value = s.y[at];
      const visible = seen && value !== null && value !== undefined && s.at[at] >= first && s.at[at] <= last;
      dots[index].setAttribute("visibility", visible ? "visible" : "hidden");
      if (visible) { dots[index].setAttribute("cx", x(s.at[at])); dots[index].setAttribute("cy", y(value)); }
    });
  };
  const placeAt = (clientX) => first + ((clientX - svg.getBoundingClientRect().left - left) / room) * (last - first);
  const pick = (from, to) => {
    picked.setAttribute("visibility", from === null ? "hidden" : "visible");
    if (from !== null) { picked.setAttribute("x", x(Math.min(from, to))); picked.setAttribute("width", Math.abs(x(to) - x(from))); }
  };
  return { svg, moveCursor, placeAt, pick, isLog };
}

function valuesWithin(series, first, last, withBounds) {
  const known = [];
  for (const s of series) {
    const rows = withBounds ? [s.y, s.low || [], s.high || []] : [s.y];
    for (const values of rows) values.forEach((value, at) => { if (value !== null && s.at[at] >= first && s.at[at] <= last) known.push(value); });
  }
  return known;
}

function verticalAxis(known, chart) {
  if (!known.length) return [0, 1, [], 1, false];
  const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
  const positive = view.log && chart.kind !== "stack" ? known.filter((value) => value > 0) : [];
  // A few zeros (no token was clipped) do not keep the others from a logarithmic axis; negative numbers do.
  if (positive.length && low >= 0) return [...logAxis(positive.reduce((a, b) => Math.min(a, b)), high), true];
  return [...axis(low, high, chart.unit), false];
}

function horizontalTicks(svg, first, last, room, x, height, width) {
  const ticks = view.axis === "time" ? timeTicks(first, last, room) : stepTicks(first, last, room);
  for (const tick of ticks) {
    const text = view.axis === "time" ? clockLabel(tick) : tick.toLocaleString("en"), place = x(tick), half = 3.2 * text.length;
    const anchor = place + half > width ? "end" : "middle";
    svg.append(element("text", { x: anchor === "end" ? width - 1 : place, y: height - 6, "text-anchor": anchor }, text));
  }
}

function drawLayer(svg, s, x, y) {
  const upper = s.at.map((place, at) => `${x(place).toFixed(1)},${y(s.y[at]).toFixed(1)}`);
  const lower = s.at.map((place, at) => `${x(place).toFixed(1)},${y(s.floor[at]).toFixed(1)}`).reverse();
  svg.append(element("path", { d: `M${[...upper, ...lower].join("L")}Z`, fill: s.colour, "fill-opacity": 0.8, stroke: s.colour, "stroke-width": s.at.length > 1 ? 0 : 6 }));
}

/* A long curve is drawn twice: thin as it is, thick as the mean of neighbouring steps. */
function drawCurve(svg, s, x, y, chart, room, isAlone) {
  const markers = chart.markers, bounded = s.low && s.low.length > 0;
  if (bounded && !markers && s.at.length > 1 && isAlone) {
    const upper = s.at.map((place, at) => `${x(place).toFixed(1)},${y(s.high[at]).toFixed(1)}`);
    const lower = s.at.map((place, at) => `${x(place).toFixed(1)},${y(s.low[at]).toFixed(1)}`).reverse();
    svg.append(element("path", { d: `M${[...upper, ...lower].join("L")}Z`, fill: s.colour, "fill-opacity": 0.12 }));
  }
  const isLong = isSmoothed(chart, s);
  const line = { fill: "none", stroke: s.colour, "stroke-linejoin": "round", "stroke-linecap": "round", "stroke-dasharray": s.dash || null };
  const dense = s.at.length > room;
  svg.append(element("path", { d: linePath(...thinned(s.at, s.y, x, room), x, y), ...line, "stroke-width": isLong || dense ? 1 : 1.9, "stroke-opacity": isLong ? (dense ? 0.25 : 0.35) : 1 }));
  if (isLong) {
    const reach = Math.max(1, Math.round((s.at.length * view.smoothing) / 100));
    svg.append(element("path", { d: linePath(s.at, smoothed(s.y, reach), x, y), ...line, "stroke-width": 2.1 }));
  }
  if (!markers && s.at.length > 1) return;
  s.at.forEach((place, at) => {
    if (s.y[at] === null) return;
    if (bounded && s.low[at] !== null) {
      svg.append(element("line", { x1: x(place), x2: x(place), y1: y(s.low[at]), y2: y(s.high[at]), stroke: s.colour, "stroke-width": 1.4, "stroke-opacity": 0.6 }));
    }
    svg.append(element("circle", { cx: x(place), cy: y(s.y[at]), r: 3.2, fill: s.colour }));
    if (s.ring !== null && s.x[at] === s.ring) {
      svg.append(element("circle", { class: "ring", cx: x(place), cy: y(s.y[at]), r: 7, fill: "none", stroke: s.colour, "stroke-width": 1.6 }));
    }
  });
}

/* More points than pixels: of each pixel the smallest and the largest, so that no spike is lost. */
function thinned(places, values, x, room) {
  if (places.length < 2 * room) return [places, values];
  const kept = [], numbers = [];
  for (let at = 0; at < places.length;) {
    const pixel = Math.floor(x(places[at]));
    let low = -1, high = -1;
    for (; at < places.length && Math.floor(x(places[at])) === pixel; at += 1) {
      if (values[at] === null) continue;
      if (low < 0 || values[at] < values[low]) low = at;
      if (high < 0 || values[at] > values[high]) high = at;
    }
    for (const one of low === high ? [low] : [Math.min(low, high), Math.max(low, high)]) if (one >= 0) { kept.push(places[one]); numbers.push(values[one]); }
  }
  return [kept, numbers];
}

function linePath(places, values, x, y) {
  let path = "", pen = "M";
  places.forEach((place, at) => {
    if (values[at] === null) { pen = "M"; return; }
    path += `${pen}${x(place).toFixed(1)},${y(values[at]).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

function stacked(series) {
  const sums = series.length ? series[0].x.map(() => 0) : [];
  return series.map((s) => {
    const floor = [...sums];
    s.y.forEach((value, at) => { sums[at] += value || 0; });
    return { ...s, floor, y: [...sums], low: [], high: [] };
  });
}
