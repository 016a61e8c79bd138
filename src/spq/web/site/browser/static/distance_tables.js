// Distance tables (M, K) of a query: the formulas of spq.index.merge and spq.pq.tables.

import { Refusal } from "./refusal.js";

export const NEGATIVE = 0.3; // weight of a negative, as in spq.index.request

/** Return the table (M, K) of an item's code, from the tables of all codewords (K, M, K) in the site's files. */
export function tableOfCode(code, tables, M, K) {
  const table = new Float32Array(M * K);
  for (let m = 0; m < M; m++) {
    const start = (code[m] * M + m) * K;
    table.set(tables.subarray(start, start + K), m * K);
  }
  return table;
}

const squared = (x, c) => x.reduce((sum, value, i) => sum + (value - c[i]) ** 2, 0);

/** The entry of a table for each distance, from a sub-vector and a codeword. */
const ENTRY = {
  l2: (x, c) => Math.sqrt(squared(x, c)),
  sqeuclidean: squared,
  dot: (x, c) => -x.reduce((sum, value, i) => sum + value * c[i], 0),
};

/** The distance between two codes of the collection, as in spq.pq.tables. */
export const betweenCodes = (distance) => (distance === "dot" ? "sqeuclidean" : distance);

/** Return the table (M, K) of a descriptor (M * d) and codebooks (M, K, d). */
export function tableOfDescriptor(x, codebooks, M, K, distance) {
  const d = x.length / M;
  const table = new Float32Array(M * K);
  for (let m = 0; m < M; m++) {
    const part = x.slice(m * d, (m + 1) * d);
    for (let at = m * K; at < (m + 1) * K; at++)
      table[at] = ENTRY[distance](part, codebooks.subarray(at * d, (at + 1) * d));
  }
  if (!table.every(Number.isFinite)) throw new Refusal("the distances of this picture are not finite");
  return table;
}

/** The descriptor (M * d) of a code (M): its codewords. */
export function decoded(code, codebooks, K) {
  const d = codebooks.length / (code.length * K);
  const x = new Float32Array(code.length * d);
  code.forEach((k, m) => x.set(codebooks.subarray((m * K + k) * d, (m * K + k + 1) * d), m * d));
  return x;
}

/** The code (M) of a descriptor (M * d): the nearest codeword of each codebook. */
export function codeOf(x, codebooks, M, K) {
  const table = tableOfDescriptor(x, codebooks, M, K, "sqeuclidean");
  return Uint8Array.from({ length: M }, (_, m) => {
    const own = table.subarray(m * K, (m + 1) * K);
    return own.indexOf(Math.min(...own));
  });
}

/**
 * Combine the tables of positives and negatives into one.
 * @param weights null, or a number of 0 or more for each positive, then for each negative.
 */
export function combined(positive, negative, weights = null) {
  if (positive.length === 1 && !negative.length && weights === null) return positive[0];
  const w = weights ?? [...positive.map(() => 1), ...negative.map(() => NEGATIVE)];
  const toward = w.slice(0, positive.length);
  const away = w.slice(positive.length).map((weight) => weight / negative.length);
  const sum = toward.reduce((a, b) => a + b, 0);
  if (w.length !== positive.length + negative.length || !w.every((v) => Number.isFinite(v) && v >= 0) || !(sum > 0)) {
    throw new Refusal("weights must have one number of 0 or more for each picture, not all 0");
  }
  const scale = 1 + away.reduce((a, b) => a + b, 0);
  return Float32Array.from(positive[0], (_, at) => {
    const mean = positive.reduce((total, table, p) => total + (toward[p] / sum) * table[at], 0);
    return scale * mean - negative.reduce((total, table, j) => total + away[j] * table[at], 0);
  });
}

/** Return what each codebook adds to the distance of a code: {total, parts}, as spq.index.explain. */
export function explained(table, code, K) {
  const own = Array.from(code, (k, m) => table[m * K + k]);
  const size = own.reduce((sum, d) => sum + Math.abs(d), 0) || 1;
  const parts = own.map((distance, m) => {
    let nearest = 0;
    for (let k = 1; k < K; k++) if (table[m * K + k] < table[m * K + nearest]) nearest = k;
    return { m, codeword: code[m], nearest, distance, share: Math.abs(distance) / size };
  });
  return { total: own.reduce((sum, d) => sum + d, 0), parts };
}
