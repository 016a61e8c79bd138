// What to say of a column that no picture has, as spq.index.filter_sql and spq.common.nearest_names say it.

import { BUILT_IN, isPlain } from "../filter_tokens.js";

/**
 * @param {{name: string, own: boolean, position: number}} column
 * @param {string[]} known names as an expression has them
 */
export function unknownColumn({ name, own, position }, known) {
  const written = own && (!isPlain(name) || BUILT_IN.includes(name)) ? `[${name.replaceAll("]", "]]")}]` : name;
  const near = nearestNames(written, known);
  const meant = near.length ? `did you mean ${near.join(" or ")}? ` : "";
  return `unknown column ${written} at ${position}; ${meant}columns are ${known.join(", ")}`;
}

/** Return the names that differ in few letters or only in case, the nearest first. */
function nearestNames(name, known) {
  const most = Math.max(1, Math.floor([...name].length / 3));
  const found = known.map((other) => ({ other, distance: changes(name.toLowerCase(), other.toLowerCase()) }));
  return found
    .filter(({ distance }) => distance <= most)
    .sort((a, b) => a.distance - b.distance)
    .map(({ other }) => other);
}

/** How many letters to change, add, drop or exchange with their neighbour to make b of a. */
function changes(a, b) {
  const [from, to] = [[...a], [...b]];
  let before = [];
  let last = Array.from({ length: to.length + 1 }, (_, j) => j);
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      const isOther = from[i - 1] !== to[j - 1];
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + Number(isOther));
      if (i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1])
        row[j] = Math.min(row[j], before[j - 2] + 1);
    }
    [before, last] = [last, row];
  }
  return last[to.length];
}
