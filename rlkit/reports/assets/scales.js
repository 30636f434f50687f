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

/* Index of the value nearest to the wanted one; values rise. */
function nearest(values, wanted) {
  let low = 0, high = values.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle; else high = middle;
  }
  return Math.abs(values[high] - wanted) < Math.abs(values[low] - wanted) ? high : low;
}

/* Mean of each value and its neighbours, fewer of them towards the ends; what is missing does not count. */
function smoothed(values, reach) {
  return values.map((value, at) => {
    if (value === null) return null;
    const around = Math.max(Math.min(reach, at, values.length - 1 - at), Math.round(reach / 2));
    const known = values.slice(Math.max(0, at - around), at + around + 1).filter((one) => one !== null);
    return known.reduce((sum, one) => sum + one, 0) / known.length;
  });
}
