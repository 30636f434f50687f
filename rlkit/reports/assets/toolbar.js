/* How curves are drawn, for all charts at once. */
const view = { axis: "step", smoothing: 4, log: false, zoom: null, hidden: new Set() };
const pictures = [];

/* A card whose picture is drawn when it comes into sight, and anew for another width or another view.
   The place has its height from the start: drawing must not change the layout that is being observed. */
function responsive(card, place, draw) {
  const picture = { width: 0, visible: false, dirty: true };
  picture.update = (always = false) => {
    const width = Math.round(place.clientWidth);
    if (width < 40 || !(picture.visible || always)) return;
    if (!picture.dirty && width === picture.width) return;
    picture.width = width;
    picture.dirty = false;
    draw(width);
  };
  new ResizeObserver(() => picture.update()).observe(place);
  new IntersectionObserver(([entry]) => { picture.visible = entry.isIntersecting; picture.update(); }, { rootMargin: "400px" }).observe(place);
  pictures.push(picture);
  return card;
}

function redraw() {
  for (const picture of pictures) { picture.dirty = true; picture.update(); }
}

addEventListener("beforeprint", () => pictures.forEach((picture) => picture.update(true)));

function buildToolbar(runs, isLong) {
  const bar = document.getElementById("toolbar");
  const reset = element("button", { type: "button", class: "small", hidden: true }, "whole run");
  view.zoomed = () => { reset.hidden = view.zoom === null; redraw(); };
  reset.addEventListener("click", () => { view.zoom = null; view.zoomed(); });
  const axisChoice = choice("x axis", [["step", "steps"], ["time", "time"]], (value) => { view.axis = value; view.zoom = null; view.zoomed(); showAt(null); });
  const scaleChoice = choice("y axis", [["", "linear"], ["log", "log"]], (value) => { view.log = value === "log"; redraw(); });
  const slider = element("input", { type: "range", min: 0, max: 25, value: view.smoothing, id: "smoothing", "aria-label": "Smoothing" });
  slider.addEventListener("input", () => { view.smoothing = Number(slider.value); redraw(); });
  const timed = runs.some((run) => run.clock.steps.length > 1);
  bar.append(...[
    timed ? axisChoice : null, scaleChoice,
    isLong ? element("label", { class: "smooth", title: "thin: each step; thick: mean of neighbouring steps" }, "smoothing", slider) : null, reset,
  ].filter(Boolean));
  if (runs.length > 1) bar.append(runChoice(runs));
}

/* Two or three words of which one is chosen. */
function choice(label, options, onChange) {
  const buttons = options.map(([value, name], at) => {
    const button = element("button", { type: "button", "aria-pressed": at === 0 ? "true" : "false" }, name);
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", other === button ? "true" : "false");
      onChange(value);
    });
    return button;
  });
  return element("span", { class: "choice", role: "group", "aria-label": label }, buttons);
}

function runChoice(runs) {
  return element("span", { class: "runs", role: "group", "aria-label": "Runs" }, runs.map((run, number) => {
    const button = element("button", { type: "button", class: "run", style: `--c: ${colour(number)}`, "aria-pressed": "true", title: "show or hide this run" }, run.label);
    button.addEventListener("click", () => {
      if (view.hidden.has(number)) view.hidden.delete(number); else view.hidden.add(number);
      button.setAttribute("aria-pressed", view.hidden.has(number) ? "false" : "true");
      redraw();
      showAt(null);
    });
    return button;
  }));
}
