/** Names of the regions of a map: in each part of the plane the most frequent name of its pictures, if it is clear. */

const PART = 150; // CSS pixels of a part
const CLEAR = 0.45; // share of the pictures of a part that have its name
const APART = 1.8; // parts between two equal names

/**
 * @param {{x: Float32Array, y: Float32Array}} points
 * @param {Uint8Array} codes of the names; one that is not below `names.length` has none
 * @param {string[]} names
 * @param {number} scale pixels per unit at this zoom
 * @returns {{name: string, x: number, y: number, many: number}[]} the largest first
 */
export function regionNames({ x, y }, codes, names, scale) {
  const size = PART / scale;
  const fewest = Math.max(3, x.length / 2000);
  const kinds = names.length + 2;
  const parts = new Map();
  for (let i = 0; i < x.length; i++) {
    const key = Math.floor(x[i] / size) * 1e6 + Math.floor(y[i] / size);
    let part = parts.get(key);
    if (!part) parts.set(key, (part = { many: 0, counts: new Uint32Array(kinds), rows: [] }));
    part.many++;
    part.counts[codes[i]]++;
    part.rows.push(i);
  }
  const found = [];
  for (const { many, counts, rows } of parts.values()) {
    let top = 0;
    for (let k = 1; k < names.length; k++) if (counts[k] > counts[top]) top = k;
    if (many < fewest || !names.length || counts[top] < CLEAR * many) continue;
    const own = rows.filter((i) => codes[i] === top);
    const mean = (values) => own.reduce((sum, i) => sum + values[i], 0) / own.length;
    found.push({ name: names[top], x: mean(x), y: mean(y), many: counts[top] });
  }
  found.sort((a, b) => b.many - a.many);
  return found.filter(
    (one, n) =>
      !found
        .slice(0, n)
        .some((other) => other.name === one.name && Math.hypot(other.x - one.x, other.y - one.y) < APART * size),
  );
}

/**
 * Those names that do not cover a larger one.
 * @param {any[]} placed the largest first: {sx, sy, width}
 */
export function withoutOverlap(placed, height = 22) {
  /** @type {typeof placed} */
  const kept = [];
  for (const one of placed) {
    const covers = kept.some(
      (other) =>
        Math.abs(one.sx - other.sx) < (one.width + other.width) / 2 + 6 && Math.abs(one.sy - other.sy) < height,
    );
    if (!covers) kept.push(one);
  }
  return kept;
}
