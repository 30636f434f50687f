/* Pictures of a distribution over time: a column for each step, a row for each range of values. */

/* maps: [{name, steps, labels, shares}] of which one is shown at a time; say(map, step, label, share) describes a cell. */
function heatmapCard(title, note, maps, say, room = 190) {
  const at = element("span", { class: "at" });
  const chooser = element("select", { "aria-label": `${title}: which`, class: "small" }, maps.map((map, index) => element("option", { value: index }, map.name)));
  const place = element("div", { class: "plot" });
  let map = maps[0], picture = null;
  const quiet = () => { at.textContent = `${map.steps.length} ${map.steps.length === 1 ? "step" : "steps"}`; };
  const rowHeight = () => Math.max(13, Math.min(72, room / map.labels.length));
  const resize = () => { place.style.height = `${map.labels.length * rowHeight() + 24}px`; };
  const draw = (width) => {
    picture = drawHeatmap(map, width, rowHeight(), title, (step, label, share) => { at.textContent = step === null ? "" : say(map, step, label, share); if (step === null) quiet(); });
    place.replaceChildren(picture);
  };
  chooser.addEventListener("input", () => { map = maps[Number(chooser.value)]; resize(); quiet(); redraw(); });
  resize();
  quiet();
  const head = element("div", { class: "head" }, element("h3", {}, title), at, maps.length > 1 ? chooser : null);
  return responsive(element("div", { class: "card wide" }, head, element("div", { class: "note" }, note), place), place, draw);
}

function drawHeatmap(map, width, rowHeight, title, tell) {
  const { steps, labels, shares } = map;
  const most = Math.max(...shares.flat()) || 1;
  const left = 14 + 6.3 * Math.max(...labels.map((label) => label.length)), height = labels.length * rowHeight + 24;
  const cell = (width - left - RIGHT) / steps.length, gap = cell > 6 ? 1 : 0;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title });
  labels.forEach((label, row) => {
    const top = (labels.length - 1 - row) * rowHeight;
    svg.append(element("text", { x: left - 8, y: top + rowHeight / 2 + 4, "text-anchor": "end" }, label));
    steps.forEach((step, column) => {
      const opacity = shares[row][column] ? (0.08 + 0.92 * (shares[row][column] / most)).toFixed(3) : 0.03;
      svg.append(element("rect", { x: (left + column * cell).toFixed(2), y: top.toFixed(1), width: (cell - gap + (gap ? 0 : 0.3)).toFixed(2), height: (rowHeight - 1).toFixed(1), fill: "var(--accent)", "fill-opacity": opacity }));
    });
  });
  let free = -Infinity;
  for (const step of stepTicks(steps[0], steps[steps.length - 1], width - left - RIGHT)) {
    const x = left + (nearest(steps, step) + 0.5) * cell, text = step.toLocaleString("en"), anchor = x + 3.2 * text.length > width ? "end" : "middle";
    if (x - free < 34) continue;
    free = x;
    svg.append(element("text", { x: anchor === "end" ? width - 1 : x, y: height - 6, "text-anchor": anchor }, text));
  }
  const follow = (event) => {
    const box = svg.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - left) / cell), row = labels.length - 1 - Math.floor((event.clientY - box.top) / rowHeight);
    if (column < 0 || column >= steps.length || row < 0 || row >= labels.length) return;
    tell(steps[column], labels[row], shares[row][column]);
  };
  for (const kind of ["pointermove", "pointerdown"]) svg.addEventListener(kind, follow);
  svg.addEventListener("pointerleave", () => tell(null));
  return svg;
}

function distributionCard(runs) {
  const maps = runs.flatMap((run) => run.distributions.map((map) => ({ ...map, name: runs.length > 1 ? `${run.label}: ${map.name}` : map.name })));
  if (!maps.length) return null;
  return heatmapCard("Reward distribution", "share of a step's answers with each value: the stronger the colour, the more", maps,
    (map, step, label, share) => `step ${step.toLocaleString("en")}: ${formatted(share, "share")} of the answers have ${label}`);
}
