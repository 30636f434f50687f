/* Curves as SVG. Hovering one chart moves the cursor of all of them to the same step. */
const WIDTH = 360, HEIGHT = 190, LEFT = 56, RIGHT = 10, TOP = 8, BOTTOM = 22;
const cursors = [];
const colour = (index) => `var(--c${index % 8})`;

function drawChart(chart) {
  const stack = chart.kind === "stack";
  const series = stack ? stacked(chart.series) : chart.series;
  const steps = [...new Set(series.flatMap((s) => s.x))].sort((a, b) => a - b);
  const known = series.flatMap((s) => [...s.y, ...(s.low || []), ...(s.high || [])]).filter((v) => v !== null);
  if (stack) known.push(0);
  const [low, high, ticks] = axis(Math.min(...known), Math.max(...known));
  const first = steps[0], last = steps[steps.length - 1];
  const x = (step) => LEFT + (last === first ? 0.5 : (step - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": chart.title });
  for (const tick of ticks) {
    svg.append(element("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }));
    svg.append(element("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, formatted(tick, chart.unit)));
  }
  for (const step of stepTicks(first, last)) {
    svg.append(element("text", { x: x(step), y: HEIGHT - 5, "text-anchor": "middle" }, step.toLocaleString("en")));
  }
  series.forEach((s, index) => drawSeries(svg, s, index, x, y, stack, chart.markers, series.length));
  const cursor = element("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  svg.append(cursor);
  const legend = element("div", { class: "legend" });
  const show = (step) => {
    const shown = step === null ? last : step;
    cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    cursor.setAttribute("x1", x(shown)); cursor.setAttribute("x2", x(shown));
    const entries = chart.series.map((s, index) => {
      const at = nearest(s.x, shown);
      const name = `${s.name} `;
      const bounds = chart.markers && s.low && s.low[at] !== undefined && s.low[at] !== null
        ? ` (${formatted(s.low[at], chart.unit)} to ${formatted(s.high[at], chart.unit)})` : "";
      return element("span", { style: `--c: ${colour(index)}` }, name, element("b", {}, formatted(s.y[at], chart.unit)), bounds);
    });
    const unit = unitName(chart.unit);
    legend.replaceChildren(...entries, element("i", {}, `${unit ? unit + ", " : ""}step ${shown.toLocaleString("en")}`));
  };
  cursors.push((step) => show(step === null ? null : Math.min(last, Math.max(first, steps[nearest(steps, step)]))));
  const move = (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    const step = first + ((at - LEFT) / (WIDTH - LEFT - RIGHT)) * (last - first);
    cursors.forEach((update) => update(step));
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", () => cursors.forEach((update) => update(null)));
  show(null);
  return element("div", { class: "card" }, element("h3", {}, chart.title), element("div", { class: "note" }, chart.note), svg, legend);
}

function drawSeries(svg, s, index, x, y, stack, markers, count) {
  const points = s.x.map((step, at) => [x(step), s.y[at] === null ? null : y(s.y[at])]);
  if (stack) {
    const floor = s.x.map((step, at) => [x(step), y(s.floor[at])]).reverse();
    const closed = [...points, ...floor].map((p) => p.join(",")).join("L");
    svg.append(element("path", { d: `M${closed}Z`, fill: colour(index), "fill-opacity": 0.75 }));
    return;
  }
  if (s.low && s.low.length && !markers && s.x.length > 1) {
    const upper = s.x.map((step, at) => `${x(step)},${y(s.high[at])}`);
    const lower = s.x.map((step, at) => `${x(step)},${y(s.low[at])}`).reverse();
    svg.append(element("path", { d: `M${[...upper, ...lower].join("L")}Z`, fill: colour(index), "fill-opacity": 0.14 }));
  }
  let path = "", pen = "M";
  for (const [px, py] of points) {
    if (py === null) { pen = "M"; continue; }
    path += `${pen}${px.toFixed(2)},${py.toFixed(2)}`; pen = "L";
  }
  svg.append(element("path", { d: path, fill: "none", stroke: colour(index), "stroke-width": 1.8, "stroke-linejoin": "round" }));
  if (!markers && points.length > 1) return;
  points.forEach(([px, py], at) => {
    if (py === null) return;
    if (s.low && s.low[at] !== undefined && s.low[at] !== null) {
      svg.append(element("line", { x1: px, x2: px, y1: y(s.low[at]), y2: y(s.high[at]), stroke: colour(index), "stroke-width": 1.4, "stroke-opacity": count > 1 ? 0.5 : 1 }));
    }
    svg.append(element("circle", { cx: px, cy: py, r: 3.2, fill: colour(index) }));
  });
}

function stacked(series) {
  const sums = series[0].x.map(() => 0);
  return series.map((s) => {
    const floor = [...sums];
    s.y.forEach((value, at) => { sums[at] += value || 0; });
    return { ...s, floor, y: [...sums], low: [], high: [] };
  });
}

function axis(low, high) {
  if (low === high) { const room = Math.abs(low) * 0.1 || 0.5; low -= room; high += room; }
  const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw));
  const unit = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
  const bottom = Math.floor(low / unit + 1e-9) * unit, top = Math.ceil(high / unit - 1e-9) * unit;
  const ticks = [];
  for (let at = 0; bottom + at * unit <= top + unit / 2; at += 1) ticks.push(+(bottom + at * unit).toPrecision(12));
  return [bottom, top, ticks];
}

function stepTicks(first, last) {
  if (first === last) return [first];
  const raw = (last - first) / 4, power = 10 ** Math.floor(Math.log10(Math.max(raw, 1)));
  const unit = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw) || 1;
  const ticks = [];
  for (let step = Math.ceil(first / unit) * unit; step <= last; step += unit) ticks.push(step);
  return ticks;
}

function nearest(values, wanted) {
  let best = 0;
  values.forEach((value, at) => { if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = at; });
  return best;
}
