/* How the rewards of each step are distributed: a column for each step, a row for each reward. */
function distributionCard(distribution) {
  const { steps, labels, shares } = distribution;
  const at = element("span", { class: "at" });
  const most = Math.max(...shares.flat());
  const say = (text) => { at.textContent = text; };
  const quiet = `${steps.length} ${steps.length === 1 ? "step" : "steps"}`;
  const left = 14 + 6.3 * Math.max(...labels.map((label) => label.length));
  const rowHeight = Math.max(15, Math.min(72, 165 / labels.length)), height = labels.length * rowHeight + 24;
  const place = element("div", { class: "plot", style: `height: ${height}px` });
  const draw = (width) => {
    const cell = (width - left - RIGHT) / steps.length, gap = cell > 6 ? 1 : 0;
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "Distribution of rewards" });
    labels.forEach((label, row) => {
      const top = (labels.length - 1 - row) * rowHeight;
      svg.append(element("text", { x: left - 8, y: top + rowHeight / 2 + 4, "text-anchor": "end" }, label));
      steps.forEach((step, column) => {
        const opacity = (0.05 + 0.95 * (shares[row][column] / most)).toFixed(3);
        svg.append(element("rect", { x: left + column * cell, y: top, width: cell - gap, height: rowHeight - 1, fill: "var(--accent)", "fill-opacity": opacity }));
      });
    });
    let free = -Infinity;
    for (const step of stepTicks(steps[0], steps[steps.length - 1], width - left - RIGHT)) {
      const x = left + (nearest(steps, step) + 0.5) * cell;
      if (x - free < 30) continue;
      free = x;
      svg.append(element("text", { x, y: height - 6, "text-anchor": "middle" }, step.toLocaleString("en")));
    }
    const follow = (event) => {
      const box = svg.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left - left) / cell), row = labels.length - 1 - Math.floor((event.clientY - box.top) / rowHeight);
      if (column < 0 || column >= steps.length || row < 0 || row >= labels.length) return;
      say(`step ${steps[column].toLocaleString("en")}: ${formatted(shares[row][column], "share")} of the answers have reward ${labels[row]}`);
    };
    for (const kind of ["pointermove", "pointerdown"]) svg.addEventListener(kind, follow);
    svg.addEventListener("pointerleave", () => say(quiet));
    place.replaceChildren(svg);
  };
  say(quiet);
  const head = element("div", { class: "head" }, element("h3", {}, "Reward distribution"), at);
  const note = element("div", { class: "note" }, "share of a step's answers with each reward: the stronger the colour, the more");
  return responsive(element("div", { class: "card wide" }, head, note, place), place, draw);
}
