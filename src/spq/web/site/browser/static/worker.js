// Searches in a thread of its own, so that the page stays responsive. `source.js` calls it.

import { Ranking, bytesPerCode, distances, foldedPage, subCode, tieKeys, unpack } from "./scan.js";
import { Refusal } from "./refusal.js";
import { load, loadJson } from "./files.js";
import { settings } from "./settings.js"; // written by the export
import { parse } from "../filter_language.js";
import { columnsOf, evaluate, wordColumnsOf } from "./filter_match.js";
import { unknownColumn } from "./unknown_column.js";
import {
  betweenCodes,
  codeOf,
  combined,
  decoded,
  explained,
  tableOfCode,
  tableOfDescriptor,
} from "./distance_tables.js";

const KEPT = 4; // cached rankings and filters; for a million pictures one is up to 13 MB

class Index {
  /** @type {number[][]?} */
  counts = null; // of usage()
  orders = {};
  kept = new Map(); // rankings and filters
  files = new Map();

  constructor(base, facts, { ids, codes, codebooks, tables }) {
    this.base = base;
    this.facts = facts;
    this.M = facts.codebooks;
    this.K = facts.codewords;
    this.N = facts.images;
    this.P = bytesPerCode(this.M, this.K);
    this.ids = new Uint32Array(ids);
    this.ties = tieKeys(this.ids);
    this.packed = new Uint8Array(codes);
    this.codebooks = new Float32Array(codebooks);
    this.tables = new Float32Array(tables);
  }

  static async load(base) {
    const facts = await loadJson(`${base}index.json`, settings.checksum);
    const column = (name) => load(`${base}${name}.bin`, facts.checksums[`${name}.bin`]);
    const [ids, codes, codebooks, tables] = await Promise.all(["ids", "codes", "codebooks", "tables"].map(column));
    const index = new Index(base, facts, { ids, codes, codebooks, tables });
    if (index.ids.length !== index.N || index.packed.length !== index.N * index.P) {
      throw new Error("the files of this site do not match each other; export it again");
    }
    return index;
  }

  /** Return the row of an id. */
  row(id) {
    let low = 0,
      high = this.N;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ids[middle] < id) low = middle + 1;
      else high = middle;
    }
    if (this.ids[low] !== id) throw new Refusal(`no picture ${id} on this site`);
    return low;
  }

  code(id) {
    return unpack(this.packed, this.row(id), this.M, this.K);
  }

  /** Return the table of a query: {ids, not_ids, weights}, and descriptors of pictures, which come before ids. */
  table({ ids = [], not_ids = [], weights = null, described = [], not_described = [] }) {
    const { M, K } = this;
    const ofId = (id) => tableOfCode(this.code(id), this.tables, M, K);
    const ofPicture = (x) => tableOfDescriptor(x, this.codebooks, M, K, this.facts.distance);
    const positive = [...described.map(ofPicture), ...ids.map(ofId)];
    if (!positive.length) throw new Refusal("no picture to search with; give one");
    return combined(positive, [...not_described.map(ofPicture), ...not_ids.map(ofId)], weights);
  }

  /** Return ids and distances of the answers from `offset` to `offset + top`, and how many rows may be answers. */
  async search(query) {
    const { ids = [], not_ids = [], top = 20, offset = 0, max_distance = null, fold = false, where = "" } = query;
    const table = this.table(query);
    const excluded = [...new Set(query.excluded ?? [...ids, ...not_ids])].map((id) => this.row(id));
    const matching = where ? await this.matching(where) : null;
    const key = JSON.stringify([Array.from(table), excluded, max_distance, where]);
    const { ranking, total } = this.once(key, () => {
      const allowed = excluded.length || matching ? (matching?.slice() ?? new Uint8Array(this.N).fill(1)) : null;
      for (const row of excluded) allowed[row] = 0;
      const d = distances(table, this.packed, this.N, this.M, this.K);
      const available = allowed ? allowed.reduce((sum, is) => sum + is, 0) : this.N;
      return { ranking: new Ranking(d, allowed, max_distance ?? Infinity, this.ties), total: available };
    });
    const page = fold
      ? foldedPage(ranking, this.packed, this.P, offset, top)
      : { rows: Array.from(ranking.first(offset + top).subarray(offset, offset + top)), folded: null };
    return {
      ids: page.rows.map((row) => this.ids[row]),
      ...this.nearness(query, page.rows),
      distances: page.rows.map((row) => ranking.d[row]),
      folded: page.rows.map((_, n) => (page.folded?.[n] ?? []).map((row) => this.ids[row])),
      total,
    };
  }

  /** What the distances are measured from, and those of the codes of rows to the code of the query if it is one. */
  nearness({ ids = [], not_ids = [], described = [], not_described = [] }, rows) {
    const { M, K, P } = this;
    if (ids.length + described.length !== 1 || not_ids.length + not_described.length)
      return { compared: "several", code_distances: null };
    const own = described.length ? codeOf(described[0], this.codebooks, M, K) : this.code(ids[0]);
    const table = tableOfDescriptor(
      decoded(own, this.codebooks, K),
      this.codebooks,
      M,
      K,
      betweenCodes(this.facts.distance),
    );
    const apart = (row) => own.reduce((sum, _, m) => sum + table[m * K + subCode(this.packed, row, m, P, K)], 0);
    return { compared: described.length ? "picture" : "code", code_distances: rows.map(apart) };
  }

  /** Return (N) of 0 and 1: which rows match a filter. The result is cached for the next page. */
  matching(where) {
    const key = `where ${where}`;
    const found = this.once(key, () => this.evaluated(where));
    found.catch(() => this.kept.delete(key)); // the next call tries again
    return found;
  }

  async evaluated(where) {
    const tree = parse(where);
    const files = new Map();
    for (const column of columnsOf(tree)) {
      const known = this.facts.columns.find(({ key, own }) => key === column.name && own === column.own);
      if (!known) {
        throw new Refusal(
          unknownColumn(
            column,
            this.facts.columns.map(({ name }) => name),
          ),
        );
      }
    }
    for (const { key, own, file } of this.facts.columns) {
      const isNeeded = [...columnsOf(tree), ...wordColumnsOf(tree)].some((one) => one.name === key && one.own === own);
      if (isNeeded) files.set(`${own} ${key}`, await this.file(`columns/${file}`));
    }
    return evaluate(tree, ({ own, name }) => files.get(`${own} ${name}`), this.N);
  }

  /** Load a JSON file once. After a failure the next call tries again. */
  file(name) {
    if (!this.files.has(name)) {
      this.files.set(name, loadJson(this.base + name, this.facts.checksums[name]));
      this.files.get(name).catch(() => this.files.delete(name));
    }
    return this.files.get(name);
  }

  binary(name) {
    return load(this.base + name, this.facts.checksums[name]);
  }

  once(key, make) {
    const value = this.kept.get(key) ?? make();
    this.kept.delete(key);
    this.kept.set(key, value);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    return value;
  }

  explain(query) {
    return explained(this.table(query), this.code(query.id), this.K);
  }

  codeOf(id) {
    return Array.from(this.code(id));
  }

  rowsOf(ids) {
    return ids.map((id) => this.row(id));
  }

  /** Return the ids of a page of all items. order: id, random, or one that has a file of row numbers. */
  async browse({ offset, top, order, seed, where }) {
    const rows = order === "id" ? null : order === "random" ? this.shuffled(seed) : await this.order(order);
    if (!where) {
      const length = Math.max(0, Math.min(top, this.N - offset));
      const page = rows?.subarray(offset, offset + top) ?? Array.from({ length }, (_, n) => offset + n);
      return { ids: Array.from(page, (row) => this.ids[row]), total: this.N };
    }
    const matching = await this.matching(where);
    const found = (rows ?? Uint32Array.from({ length: this.N }, (_, row) => row)).filter((row) => matching[row]);
    return { ids: Array.from(found.subarray(offset, offset + top), (row) => this.ids[row]), total: found.length };
  }

  /** All rows in a random order, the same one for a seed. */
  shuffled(seed) {
    return this.once(`random ${seed}`, () => {
      const keys = Uint32Array.from(this.ids, (id) => {
        const mixed = Math.imul(id ^ Number(seed), 0x9e3779b1);
        return Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b) >>> 0;
      });
      return Uint32Array.from(keys.keys()).sort((a, b) => keys[a] - keys[b] || a - b);
    });
  }

  async order(name) {
    this.orders[name] ??= new Uint32Array(await this.binary(`order-${name}.bin`));
    return this.orders[name];
  }

  /** Return the map. Its file has rows, x, y, then names of thumbnails: 8 bytes each, 0 for none. */
  async map(where) {
    const matching = where ? await this.matching(where) : null;
    const data = await this.binary("map.bin");
    const count = data.byteLength / 20;
    const rows = new Uint32Array(data, 0, count);
    const shown = Uint32Array.from(rows.keys()).filter((n) => !matching || matching[rows[n]]);
    const ids = Int32Array.from(shown, (n) => this.ids[rows[n]]);
    const [x, y] = [4, 8].map((bytes) => {
      const all = new Float32Array(data, bytes * count, count);
      return Float32Array.from(shown, (n) => all[n]);
    });
    const names = new DataView(data, 12 * count);
    const thumbs = Array.from(shown, (n) => {
      const name = names
        .getBigUint64(8 * n)
        .toString(16)
        .padStart(16, "0");
      return /[^0]/.test(name) ? name : "";
    });
    const total = matching ? matching.reduce((sum, is) => sum + is, 0) : this.N;
    return { ids, x, y, thumbs, count: shown.length, total };
  }

  /** Return how many items use each codeword: M arrays of K numbers. */
  async usage(where) {
    const matching = where ? await this.matching(where) : null;
    if (matching) return this.countsAmong(Uint32Array.from(matching.keys()).filter((row) => matching[row]));
    this.counts ??= this.countsAmong(null);
    return this.counts;
  }

  /** The same for some rows, or for all if null. */
  countsAmong(rows) {
    const counts = Array.from({ length: this.M }, () => Array(this.K).fill(0));
    const length = rows ? rows.length : this.N;
    for (let m = 0; m < this.M; m++) {
      for (let n = 0; n < length; n++) counts[m][subCode(this.packed, rows ? rows[n] : n, m, this.P, this.K)]++;
    }
    return counts;
  }

  /** Return the ids that use codeword k of codebook m, the most typical first, as spq.pq.codewords. */
  async members({ m, k, offset, top, where }) {
    const matching = where ? await this.matching(where) : null;
    const ranking = this.once(`members ${m} ${k}`, () => this.ranked(m, k));
    const rows = matching ? ranking.first(ranking.count).filter((row) => matching[row]) : ranking.first(offset + top);
    const page = Array.from(rows.subarray(offset, offset + top));
    return { count: matching ? rows.length : ranking.count, ids: page.map((row) => this.ids[row]) };
  }

  ranked(m, k) {
    const { M, K, N, P } = this;
    const uses = new Uint8Array(N),
      rows = [];
    for (let row = 0; row < N; row++) {
      if (subCode(this.packed, row, m, P, K) !== k) continue;
      uses[row] = 1;
      rows.push(row);
    }
    const centre = this.mean(this.countsAmong(rows), Math.max(1, rows.length));
    const table = tableOfDescriptor(centre, this.codebooks, M, K, betweenCodes(this.facts.distance));
    return new Ranking(distances(table, this.packed, N, M, K), uses);
  }

  /** Return the mean descriptor of codes, from how often they use each codeword. */
  mean(counts, total) {
    const d = this.codebooks.length / (this.M * this.K);
    const x = new Float64Array(this.M * d);
    for (let m = 0; m < this.M; m++) {
      for (let k = 0; k < this.K; k++) {
        for (let i = 0; i < d; i++) x[m * d + i] += (counts[m][k] / total) * this.codebooks[(m * this.K + k) * d + i];
      }
    }
    return Float32Array.from(x);
  }

  /** Return the descriptor of a Blob. box: in pixels of the `full` size, if the Blob is smaller. */
  async describe({ picture, box, full }) {
    this.encoder ??= import("./encode.js").then(({ Encoder }) => Encoder.load(this.base, this.facts));
    return (await this.encoder).describe(picture, box, full);
  }

  forgetEncoder() {
    this.encoder = null; // the next call tries again
  }
}

let index;
self.onmessage = async ({ data: { number, method, argument } }) => {
  try {
    if (method === "load") index = Index.load(argument);
    const loaded = await index;
    const result = method === "load" ? loaded.facts : await loaded[method](argument);
    self.postMessage({ number, result });
  } catch (error) {
    if (method === "describe" && !error.isRefusal) index.then((loaded) => loaded.forgetEncoder());
    self.postMessage({ number, error: String(error.message ?? error), isRefusal: error.isRefusal === true });
  }
};
