/* How the rewards of each step are distributed: a column for each step, a row for each reward. */
function drawDistribution(distribution) {
  const { steps, labels, shares } = distribution;
  const left = 12 + 7 * Math.max(...labels.map((label) => label.length)), rowHeight = Math.max(15, Math.min(34, 150 / labels.length));
  const width = 760, height = labels.length * rowHeight + 24, cell = (width - left) / steps.length;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Distribution of rewards" });
  labels.forEach((label, row) => {
    const top = (labels.length - 1 - row) * rowHeight;
    svg.append(element("text", { x: left - 8, y: top + rowHeight / 2 + 4, "text-anchor": "end" }, label));
    steps.forEach((step, column) => {
      const share = shares[row][column];
      svg.append(element("rect", { x: left + column * cell, y: top, width: cell + 0.3, height: rowHeight - 1, fill: "var(--accent)", "fill-opacity": (0.04 + 0.96 * share).toFixed(3), "data-at": `${row},${column}` }));
    });
  });
  for (const step of stepTicks(steps[0], steps[steps.length - 1])) {
    svg.append(element("text", { x: left + (nearest(steps, step) + 0.5) * cell, y: height - 6, "text-anchor": "middle" }, step));
  }
  const legend = element("div", { class: "legend" }, "share of a step's answers with each reward; stronger is more");
  svg.addEventListener("pointermove", (event) => {
    const at = event.target.getAttribute && event.target.getAttribute("data-at");
    if (!at) return;
    const [row, column] = at.split(",").map(Number);
    legend.replaceChildren(element("i", {}, `step ${steps[column]}: `, element("b", {}, formatted(shares[row][column], "share")), ` of the answers have reward ${labels[row]}`));
  });
  return element("div", { class: "card" }, element("h3", {}, "Reward distribution"), svg, legend);
}
