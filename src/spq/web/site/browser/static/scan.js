// Exact search over packed codes. It adds the sums of spq.pq.sums in the same order and in single precision, and ranks
// ties as spq.pq.ties. So distances and their order equal those of `spq search` to the last bit.
//
// Codes are packed as there: for K <= 16 two sub-codes share a byte, the first in the low half; else one byte each.

const BLOCK = 4096; // rows summed at a time, so that their distances stay in the cache

/** Bytes of a packed code. */
export function bytesPerCode(M, K) {
  return K <= 16 ? Math.ceil(M / 2) : M;
}

/** Sub-code m of one row of packed codes of P bytes. */
export function subCode(packed, row, m, P, K) {
  if (K > 16) return packed[row * P + m];
  const pair = packed[row * P + (m >> 1)];
  return m % 2 ? Math.floor(pair / K) : pair % K;
}

/** Code (M) of one row. */
export function unpack(packed, row, M, K) {
  return Uint8Array.from({ length: M }, (_, m) => subCode(packed, row, m, bytesPerCode(M, K), K));
}

/** Turn a table (M, K) into (P, entries) for packed codes: for K <= 16 sums of pairs; a last one stays alone. */
export function lookup(table, M, K) {
  if (K > 16) return Float32Array.from(table);
  const entries = K * K;
  const pairs = new Float32Array(Math.ceil(M / 2) * entries);
  for (let m = 0, at = 0; m < M; m += 2) {
    for (let high = 0; high < K; high++) {
      const second = m + 1 < M ? table[(m + 1) * K + high] : 0;
      for (let low = 0; low < K; low++) pairs[at++] = second + table[m * K + low];
    }
  }
  return pairs;
}

/** Distances (N) float32 of packed codes (N, P) from a table (M, K) float32. */
export function distances(table, packed, N, M, K) {
  const P = bytesPerCode(M, K);
  const pairs = lookup(table, M, K);
  const entries = pairs.length / P;
  const d = new Float32Array(N);
  for (let start = 0; start < N; start += BLOCK) {
    const end = Math.min(start + BLOCK, N);
    let p = 0;
    for (; p + 4 <= P; p += 4) addFour(d, pairs, packed, start, end, P, p, entries);
    for (; p < P; p++) addOne(d, pairs, packed, start, end, P, p, entries);
  }
  return d;
}

function addFour(d, pairs, packed, start, end, P, p, entries) {
  const first = p * entries,
    second = first + entries,
    third = second + entries,
    fourth = third + entries;
  for (let row = start, at = start * P + p; row < end; row++, at += P) {
    let sum = Math.fround(d[row] + pairs[first + packed[at]]);
    sum = Math.fround(sum + pairs[second + packed[at + 1]]);
    sum = Math.fround(sum + pairs[third + packed[at + 2]]);
    d[row] = sum + pairs[fourth + packed[at + 3]];
  }
}

function addOne(d, pairs, packed, start, end, P, p, entries) {
  const first = p * entries;
  for (let row = start, at = start * P + p; row < end; row++, at += P) d[row] += pairs[first + packed[at]];
}

/** Return keys (N) of ids (N) below 2**32, the upper half of those of spq.pq.ties: ties go to the lower key. */
export function tieKeys(ids) {
  return Uint32Array.from(ids, (id) => {
    let x = Math.imul(id ^ (id >>> 16), 0x7feb352d);
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
    return x ^ (x >>> 16);
  });
}

/** Rows in the order of (distance, tie key, row). It sorts only the first rows that are needed. */
export class Ranking {
  /**
   * @param d distances (N) float32.
   * @param allowed null, or (N) of 0 and 1: 1 for rows that may be answers.
   * @param limit largest distance of an answer, rounded to single precision as NumPy does.
   * @param ties null, or (N) keys: of rows at the same distance, the lower key comes first, by default the lower row.
   */
  constructor(d, /** @type {Uint8Array?} */ allowed = null, limit = Infinity, /** @type {Uint32Array?} */ ties = null) {
    this.d = d;
    this.ties = ties;
    this.keys = sortable(d);
    this.counts = new Uint32Array(1 << 16); // eligible rows by the upper half of their key
    this.count = 0; // of all eligible rows
    this.allowed = allowed;
    this.limit = Math.fround(limit);
    for (let row = 0; row < d.length; row++) {
      if (!this.eligible(row)) continue;
      this.counts[this.keys[row] >>> 16]++;
      this.count++;
    }
    this.rows = new Uint32Array(0); // the first of the ranking, in order
  }

  eligible(row) {
    return (this.allowed === null || this.allowed[row] === 1) && this.d[row] <= this.limit;
  }

  /** Return at least the first n rows, or all if there are fewer, in order. */
  first(n) {
    if (n <= this.rows.length || this.rows.length === this.count) return this.rows;
    let bin = 0,
      candidates = this.counts[0];
    while (candidates < Math.min(n, this.count)) candidates += this.counts[++bin];
    const rows = new Uint32Array(candidates);
    for (let row = 0, at = 0; at < candidates; row++) {
      if (this.keys[row] >>> 16 <= bin && this.eligible(row)) rows[at++] = row;
    }
    this.rows = sortedByKey(this.ties ? sortedByKey(rows, this.ties) : rows, this.keys);
    return this.rows;
  }
}

/** Return integers in the same order as the floats; -0 equals 0. */
function sortable(d) {
  const keys = new Uint32Array(d.length);
  const bits = new Uint32Array(d.buffer, d.byteOffset, d.length);
  for (let row = 0; row < d.length; row++) {
    const b = bits[row] === 0x80000000 ? 0 : bits[row];
    keys[row] = b & 0x80000000 ? ~b : b | 0x80000000;
  }
  return keys;
}

/** Sort rows by their keys, and change them. The radix sort is stable: rows of the same key stay in their order. */
function sortedByKey(rows, keys) {
  let from = rows,
    to = new Uint32Array(rows.length);
  const counts = new Uint32Array(2049);
  for (const shift of [0, 11, 22]) {
    counts.fill(0);
    for (const row of from) counts[((keys[row] >>> shift) & 2047) + 1]++;
    for (let digit = 0; digit < 2048; digit++) counts[digit + 1] += counts[digit];
    for (const row of from) to[counts[(keys[row] >>> shift) & 2047]++] = row;
    [from, to] = [to, from];
  }
  return from;
}

/**
 * Return a page of answers with each code once: {rows: the first row of each, folded: its other rows}. Rows of the same
 * code have the same distance, so the group of an answer ends where a larger distance begins.
 */
export function foldedPage(ranking, packed, P, offset, top) {
  const end = offset + top;
  for (let count = 2 * end; ; count *= 4) {
    const rows = ranking.first(count);
    const answers = new Map();
    for (const row of rows) {
      let code = "";
      for (let at = row * P; at < (row + 1) * P; at++) code += String.fromCharCode(packed[at]);
      const known = answers.get(code);
      if (known) known.push(row);
      else answers.set(code, [row]);
    }
    const found = [...answers.values()];
    const isWhole = rows.length === ranking.count;
    const isComplete = found.length >= end && ranking.d[rows[rows.length - 1]] > ranking.d[found[end - 1][0]];
    if (isWhole || isComplete) {
      const page = found.slice(offset, end);
      return { rows: page.map((group) => group[0]), folded: page.map((group) => group.slice(1)) };
    }
  }
}
