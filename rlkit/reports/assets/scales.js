/* From values to positions: axes with round numbers. */
const STARTS_AT_ZERO = new Set(["bytes", "tokens/s", "s", "share"]);

/* [bottom, top, ticks, gap] of an axis that holds low and high. */
function axis(low, high, unit) {
  if (STARTS_AT_ZERO.has(unit)) low = Math.min(0, low);
  if (low === high) { const room = Math.abs(low) * 0.1 || 0.5; low -= unit && low === 0 ? 0 : room; high += room; }
  const base = unit === "bytes" ? 1024 ** Math.max(0, Math.floor(Math.log(high) / Math.log(1024))) : 1;
  const gap = roundGap((high - low) / base / 4, [1, 2, 2.5, 5, 10]) * base;
  const bottom = Math.floor(low / gap + 1e-9) * gap, top = Math.ceil(high / gap - 1e-9) * gap;
  const ticks = [];
  for (let at = 0; bottom + at * gap <= top + gap / 2; at += 1) ticks.push(+(bottom + at * gap).toPrecision(12));
  return [bottom, top, ticks, gap];
}

/* The same of a logarithmic axis: powers of ten, with 2 and 5 between them where there are few. */
function logAxis(low, high) {
  if (low === high) { low /= 1.5; high *= 1.5; }
  const decades = Math.log10(high / low), factors = decades < 1 ? [1, 1.5, 2, 3, 4, 5, 7] : decades < 3 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / 6));
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    if (power % every) continue;
    for (const factor of factors) { const tick = +(factor * 10 ** power).toPrecision(6); if (tick >= low / 1.0001 && tick <= high * 1.0001) ticks.push(tick); }
  }
  return [low / 1.05, high * 1.05, ticks, 0];
}

function roundGap(raw, factors) {
  const power = 10 ** Math.floor(Math.log10(raw));
  return factors.map((factor) => factor * power).find((candidate) => candidate >= raw * (1 - 1e-9));
}

function stepTicks(first, last, room) {
  if (first === last) return [first];
  const gap = Math.max(1, roundGap((last - first) / Math.max(2, room / 70), [1, 2, 5, 10]));
  const ticks = [];
  for (let step = Math.ceil(first / gap) * gap; step <= last; step += gap) ticks.push(step);
  return ticks;
}

const TIME_GAPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 2592000];

/* Seconds since the start, at round times. */
function timeTicks(first, last, room) {
  if (first === last) return [first];
  const wanted = (last - first) / Math.max(2, room / 70);
  const gap = TIME_GAPS.find((candidate) => candidate >= wanted) || wanted;
  const ticks = [];
  for (let at = Math.ceil(first / gap) * gap; at <= last; at += gap) ticks.push(at);
  return ticks;
}

function clockLabel(value) {
  if (value === 0) return "0";
  const days = Math.floor(value / 86400), hours = Math.floor(value / 3600) % 24, minutes = Math.floor(value / 60) % 60, rest = Math.round(value % 60);
  if (days) return hours ? `${days} d ${hours} h` : `${days} d`;
  if (hours) return minutes ? `${hours} h ${minutes}` : `${hours} h`;
  if (minutes) return rest ? `${minutes}:${String(rest).padStart(2, "0")}` : `${minutes} min`;
  return `${rest} s`;
}

/* Index of the value nearest to the wanted one; values rise. */
function nearest(values, wanted) {
  let low = 0, high = values.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle; else high = middle;
  }
  return Math.abs(values[high] - wanted) < Math.abs(values[low] - wanted) ? high : low;
}

/* Mean of each value and `reach` neighbours on either side, fewer towards the ends; what is missing does not count. */
function smoothed(values, reach) {
  const sums = [0], counts = [0];
  values.forEach((value, at) => { sums.push(sums[at] + (value === null ? 0 : value)); counts.push(counts[at] + (value === null ? 0 : 1)); });
  return values.map((value, at) => {
    if (value === null) return null;
    const around = Math.max(Math.min(reach, at, values.length - 1 - at), Math.round(reach / 2));
    const from = Math.max(0, at - around), to = Math.min(values.length, at + around + 1);
    return (sums[to] - sums[from]) / (counts[to] - counts[from]);
  });
}

/* Seconds at which each of `steps` ended, between those that the clock knows; null without a clock. */
function secondsAt(clock, steps) {
  if (!clock.steps.length) return null;
  return steps.map((step) => {
    if (step <= 0) return 0;
    const at = nearest(clock.steps, step), near = clock.steps[at];
    const other = near < step ? Math.min(at + 1, clock.steps.length - 1) : Math.max(at - 1, 0);
    if (near === step || clock.steps[other] === near) return clock.seconds[at];
    return clock.seconds[at] + ((step - near) / (clock.steps[other] - near)) * (clock.seconds[other] - clock.seconds[at]);
  });
}
