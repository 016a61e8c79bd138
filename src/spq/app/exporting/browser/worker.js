// Searches away from the page, so that it never stutters: codes in, ids out. `source.js` talks to it.

import { Ranking, bytesPerCode, distances, foldedPage, unpack } from "./scan.js";
import { combined, explained, tableOfCode, tableOfDescriptor } from "./query.js";

const KEPT = 3; // rankings: a result is scrolled through page by page

class Index {
  static async load(base) {
    const [facts, ids, codes, codebooks, tables] = await Promise.all([
      fetched(`${base}index.json`).then((answer) => answer.json()),
      ...["ids", "codes", "codebooks", "tables"].map(async (name) => (await fetched(`${base}${name}.bin`)).arrayBuffer()),
    ]);
    const index = new Index();
    const { codebooks: M, codewords: K } = facts;
    Object.assign(index, { base, facts, M, K, N: facts.images, P: bytesPerCode(M, K), rankings: new Map() });
    index.ids = new Uint32Array(ids);
    index.packed = new Uint8Array(codes);
    index.codebooks = new Float32Array(codebooks);
    index.tables = new Float32Array(tables);
    if (index.ids.length !== index.N || index.packed.length !== index.N * index.P) {
      throw new Error("the files of this site do not fit together; export it again");
    }
    return index;
  }

  /** Row of an id. */
  row(id) {
    let low = 0, high = this.N;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ids[middle] < id) low = middle + 1;
      else high = middle;
    }
    if (this.ids[low] !== id) throw new Error(`no picture ${id} here`);
    return low;
  }

  code(id) {
    return unpack(this.packed, this.row(id), this.M, this.K);
  }

  /** The table of what is asked: {ids, not_ids, weights} and descriptors of pictures, which come before ids. */
  table({ ids = [], not_ids = [], weights = null, described = [], not_described = [] }) {
    const { M, K } = this;
    const ofId = (id) => tableOfCode(this.code(id), this.tables, M, K);
    const ofPicture = (x) => tableOfDescriptor(x, this.codebooks, M, K, this.facts.distance);
    const positive = [...described.map(ofPicture), ...ids.map(ofId)];
    if (!positive.length) throw new Error("nothing to be like; give a picture");
    return combined(positive, [...not_described.map(ofPicture), ...not_ids.map(ofId)], weights);
  }

  /** Ids and distances of answers offset .. offset + top, and how many rows could be answers. */
  search(asked) {
    const { ids = [], not_ids = [], top = 20, offset = 0, max_distance = null, fold = false } = asked;
    const table = this.table(asked);
    const excluded = [...new Set([...ids, ...not_ids])].map((id) => this.row(id));
    const key = JSON.stringify([Array.from(table), excluded, max_distance]);
    const ranking = this.once(key, () => {
      const allowed = excluded.length ? new Uint8Array(this.N).fill(1) : null;
      for (const row of excluded) allowed[row] = 0;
      return new Ranking(distances(table, this.packed, this.N, this.M, this.K), allowed, max_distance ?? Infinity);
    });
    const page = fold
      ? foldedPage(ranking, this.packed, this.P, offset, top)
      : { rows: Array.from(ranking.first(offset + top).subarray(offset, offset + top)), folded: null };
    return {
      ids: page.rows.map((row) => this.ids[row]),
      distances: page.rows.map((row) => ranking.d[row]),
      folded: page.rows.map((_, n) => (page.folded?.[n] ?? []).map((row) => this.ids[row])),
      total: this.N - excluded.length,
    };
  }

  once(key, make) {
    const value = this.rankings.get(key) ?? make();
    this.rankings.delete(key);
    this.rankings.set(key, value);
    if (this.rankings.size > KEPT) this.rankings.delete(this.rankings.keys().next().value);
    return value;
  }

  explain(asked) {
    return explained(this.table(asked), this.code(asked.id), this.M, this.K);
  }

  /** How often each codeword is used: (M) arrays of K. */
  usage() {
    this.counts ??= this.countsAmong(Array(this.N).keys());
    return this.counts;
  }

  countsAmong(rows) {
    const counts = Array.from({ length: this.M }, () => Array(this.K).fill(0));
    for (const row of rows) unpack(this.packed, row, this.M, this.K).forEach((k, m) => counts[m][k]++);
    return counts;
  }

  /** Ids that use codeword k of codebook m, the most typical first, as spq.index.codewords has it. */
  members({ m, k, offset, top }) {
    const rows = [];
    for (let row = 0; row < this.N; row++) if (unpack(this.packed, row, this.M, this.K)[m] === k) rows.push(row);
    if (!rows.length) return { count: 0, ids: [] };
    const counts = this.countsAmong(rows), d = this.codebooks.length / (this.M * this.K);
    const centre = new Float32Array(this.M * d);
    for (let at = 0; at < centre.length; at++) {
      const book = Math.floor(at / d), i = at % d;
      for (let c = 0; c < this.K; c++) {
        centre[at] += (counts[book][c] / rows.length) * this.codebooks[(book * this.K + c) * d + i];
      }
    }
    const table = tableOfDescriptor(centre, this.codebooks, this.M, this.K, this.facts.distance);
    const chosen = new Uint8Array(rows.length * this.P);
    rows.forEach((row, n) => chosen.set(this.packed.subarray(row * this.P, (row + 1) * this.P), n * this.P));
    const ranking = new Ranking(distances(table, chosen, rows.length, this.M, this.K));
    const page = Array.from(ranking.first(offset + top).subarray(offset, offset + top));
    return { count: rows.length, ids: page.map((n) => this.ids[rows[n]]) };
  }

  async describe({ picture, box }) {
    this.encoder ??= import("./encode.js").then(({ Encoder }) => Encoder.load(this.base, this.facts));
    return (await this.encoder).describe(picture, box);
  }
}

async function fetched(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url.split("/").pop()} is missing on this site (${answer.status}); export it again`);
  return answer;
}

let index;
self.onmessage = async ({ data: { number, method, argument } }) => {
  try {
    if (method === "load") index = Index.load(argument);
    const loaded = await index;
    const result = method === "load" ? loaded.facts : await loaded[method](argument);
    self.postMessage({ number, result });
  } catch (error) {
    self.postMessage({ number, error: String(error.message ?? error) });
  }
};
