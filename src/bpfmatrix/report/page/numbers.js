// Numbers as a reader wants them.

/** A count in at most four characters or so: 950, 9.5k, 12k, 1.2M. */
export function shortCount(count) {
  if (count < 1000) return String(count);
  if (count < 9950) return `${(count / 1e3).toFixed(1)}k`;
  if (count < 999500) return `${Math.round(count / 1e3)}k`;
  return `${(count / 1e6).toFixed(1)}M`;
}

export function fullCount(count) {
  return count.toLocaleString("en");
}

export function duration(milliseconds) {
  return milliseconds < 1000 ? `${milliseconds}ms` : `${(milliseconds / 1000).toFixed(1)}s`;
}

export function clamp(value, low, high) {
  return Math.max(low, Math.min(high, value));
}
