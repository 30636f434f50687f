/* Elements and numbers. Text from the run only ever becomes text nodes: answers are untrusted. */
const SVG_NAMES = new Set(["svg", "path", "line", "text", "rect", "circle", "g"]);

function element(name, attributes, ...children) {
  const svg = SVG_NAMES.has(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== "") made.append(child);
  }
  return made;
}

function plain(value) {
  if (value < 0) return `−${plain(-value)}`;
  if (value === 0) return "0";
  if (value >= 1e6 || value < 1e-4) return value.toExponential(2).replace("e+", "e").replace(/\.?0+e/, "e");
  if (value >= 1e4) return Math.round(value).toLocaleString("en");
  if (value !== 1 && Math.abs(value - 1) < 5e-4) return value.toFixed(5);
  if (value >= 100) return value.toFixed(Number.isInteger(value) ? 0 : 1);
  return String(+value.toPrecision(3));
}

function scaled(value, base, units) {
  let index = 0;
  while (Math.abs(value) >= base && index < units.length - 1) { value /= base; index += 1; }
  return `${+value.toPrecision(3)}${units[index]}`;
}

function formatted(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "bytes") return scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
  if (unit === "share" && value > 0 && value < 5e-5) return "< 0.01 %";
  if (unit === "share") return `${+(100 * value).toPrecision(3)} %`;
  if (unit === "tokens/s") return scaled(value, 1000, ["", "k", "M"]);
  if (unit === "s") return seconds(value);
  return plain(value);
}

function seconds(value) {
  if (value === 0) return "0";
  if (Math.abs(value) < 1) return `${+(1000 * value).toPrecision(3)} ms`;
  return value < 100 ? `${+value.toPrecision(3)} s` : duration(value);
}

/* A tick's label: as many digits as tell it from its neighbours, which are `gap` away. */
function tickLabel(value, unit, gap) {
  if (unit === "bytes" || unit === "tokens/s" || unit === "s") return formatted(value, unit);
  const shown = unit === "share" ? 100 * value : value;
  const shownGap = unit === "share" ? 100 * gap : gap;
  const size = Math.max(Math.abs(shown), shownGap);
  if (shown !== 0 && (size >= 1e6 || shownGap < 1e-4)) return plain(shown);
  let digits = Math.max(0, -Math.floor(Math.log10(shownGap) + 1e-9));
  if (Math.abs(shownGap * 10 ** digits - Math.round(shownGap * 10 ** digits)) > 1e-6) digits += 1;
  const number = Math.abs(shown) >= 1e4 ? Math.abs(shown).toLocaleString("en") : Math.abs(shown).toFixed(digits);
  const text = shown === 0 ? "0" : shown < 0 ? `−${number}` : number;
  return unit === "share" ? `${text} %` : text;
}

function unitName(unit) { return { nats: "nats", tokens: "tokens", "tokens/s": "tokens/s" }[unit] || ""; }

function duration(value) {
  if (value === null || value === undefined) return "";
  const whole = Math.round(value), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

/* With its sign, and a true minus. */
function signed(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const text = plain(+value.toPrecision(digits));
  return value > 0 ? `+${text}` : text;
}

/* White space that can be seen. */
function visibleText(text) {
  return text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ | $/g, "␣");
}

const numberOr = (text, missing) => (text.trim() === "" || Number.isNaN(Number(text)) ? missing : Number(text));

/* Three digits behind the point, so that a column of them can be compared. */
const evenDigits = (value) => (value === null || value === undefined ? "–" : Math.abs(value) < 10 ? value.toFixed(3).replace("-", "−") : plain(value));

function interval(low, high, unit) {
  if (low === null || high === null || low === undefined || high === undefined) return "";
  const write = unit === "" && Math.max(Math.abs(low), Math.abs(high)) >= 0.01 ? evenDigits : (value) => formatted(value, unit);
  return `${write(low)} to ${write(high)}`;
}
