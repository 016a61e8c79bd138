// The collection of a site: answers like those of the server's API, from files and from a worker that searches.

import { load, loadJson } from "./files.js";
import { Refusal } from "./refusal.js";

const KEPT_PAGES = 500; // of descriptions: about 32,000 pictures
const LISTED = 100; // ids of the same code in a hit, as many as from the server

/** Each method takes and returns the same as the API's method of that name. */
export class Source {
  waiting = new Map(); // number of a call -> its promise
  calls = 0;
  /** @type {any} */
  facts = null;
  /** @type {any} */
  worker = null;
  /** @type {Promise<any>?} */
  report = null;
  /** @type {Promise<this>?} */
  opening = null;

  constructor() {
    this.base = new URL("../", import.meta.url).href;
    this.pages = new Map(); // number -> descriptions; the last used ones
    this.thumbs = new Map(); // id -> name, of all loaded items
    this.described = new WeakMap(); // Blob -> Map(box -> descriptor)
  }

  /** Return the source after its codes are loaded. After a failure the next call tries again. */
  opened() {
    this.opening ??= this.open().catch((error) => {
      this.opening = null;
      throw error;
    });
    return this.opening;
  }

  async open() {
    this.worker?.terminate();
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.waiting.clear();
    this.worker.onmessage = ({ data }) => this.answered(data);
    this.worker.onerror = (event) => this.failed(event.message || "the search script does not load; reload the page");
    this.facts = await this.call("load", this.base);
    return this;
  }

  /** Call a method of the worker's index. */
  call(method, argument) {
    return new Promise((resolve, reject) => {
      this.waiting.set(++this.calls, { resolve, reject });
      this.worker.postMessage({ number: this.calls, method, argument });
    });
  }

  answered({ number, result, error, isRefusal }) {
    const { resolve, reject } = this.waiting.get(number);
    this.waiting.delete(number);
    if (error === undefined) resolve(result);
    else reject(isRefusal ? new Refusal(error) : new Error(error));
  }

  failed(message) {
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
  }

  status() {
    const still = { watching: false, sync: null, sync_error: null, last_sync: null, new_since: null };
    return { ...this.facts, ...still };
  }

  async search({ files = [], negativeFiles = [], query }) {
    const start = performance.now();
    const found = await this.call("search", await this.toIndexQuery(query, files, negativeFiles));
    const items = await this.items(found.ids);
    // two pictures of the same bytes have one thumbnail; of an upload, only the code is known
    const own = new Set((await this.items(query.ids ?? [])).map((item) => item.thumb).filter(Boolean));
    const hits = items.map(({ id, path, label, width, height, thumb }, n) => {
      const folded = found.folded[n];
      const facts = { path, label, width, height, folded: folded.slice(0, LISTED), folded_total: folded.length };
      const near = { code_distance: found.code_distances?.[n] ?? null, same_file: own.has(thumb) };
      return { rank: (query.offset ?? 0) + n + 1, id, distance: found.distances[n], ...near, ...facts };
    });
    const seconds = (performance.now() - start) / 1000;
    const { total, compared } = found;
    return { hits, compared, total, seconds, generation: this.facts.generation };
  }

  /** The limits of the bands, as the export calibrated them. */
  async bands() {
    return { bands: this.facts.bands ?? null };
  }

  async explain({ files = [], negativeFiles = [], query, id }) {
    return this.call("explain", { ...(await this.toIndexQuery(query, files, negativeFiles)), id });
  }

  /** Replace the pictures of a query by descriptors. A box of an item is cut from its thumbnail. */
  async toIndexQuery(query, files, negativeFiles) {
    const { box = null, ids = [], not_ids = [] } = query;
    if (box && files.length + ids.length !== 1) throw new Refusal("a box needs a query of one picture");
    const described = await Promise.all(files.map((file) => this.describe(file, box)));
    const notDescribed = await Promise.all(negativeFiles.map((file) => this.describe(file, null)));
    if (!box || !ids.length) return { ...query, described, not_described: notDescribed };
    const cut = await this.describeItem(ids[0], box);
    return { ...query, ids: [], excluded: [...ids, ...not_ids], described: [cut], not_described: notDescribed };
  }

  /** Return the descriptor of a Blob; each is computed once. */
  describe(picture, box, /** @type {number[]?} */ full = null) {
    if (this.facts.runtime === null)
      throw new Refusal("this site cannot search with your own pictures; click one of its pictures");
    const known = this.described.get(picture) ?? new Map();
    this.described.set(picture, known);
    const key = String(box);
    if (!known.has(key)) {
      known.set(key, this.call("describe", { picture, box, full }));
      known.get(key).catch(() => known.delete(key));
    }
    return known.get(key);
  }

  async describeItem(id, box) {
    const [{ width, height }] = await this.items([id]);
    const answer = await fetch(this.thumbnailURL(id));
    if (!answer.ok) throw new Error(`the thumbnail of picture ${id} does not load (${answer.status})`);
    return this.describe(await answer.blob(), box, [width, height]);
  }

  async browse({ offset = 0, top = 100, where = "", order = "", seed = "0" }) {
    const found = await this.call("browse", { offset, top, where, seed, order: order || "id" });
    return { items: await this.items(found.ids), total: found.total, generation: this.facts.generation };
  }

  async item(id) {
    const [item] = await this.items([id]);
    return { ...item, code: await this.call("codeOf", id) };
  }

  async codewords({ where = "" } = {}) {
    const counts = await this.call("usage", where);
    return { codebooks: this.facts.codebooks, codewords: this.facts.codewords, counts };
  }

  async codeword(m, k, { offset = 0, top = 100, where = "" } = {}) {
    const { count, ids } = await this.call("members", { m, k, offset, top, where });
    return { m, k, count, items: await this.items(ids) };
  }

  /** A page of the duplicates that the export found. Nothing is decided here. */
  async duplicates({ kind = [], where = "", offset = 0, top = 100 } = {}) {
    if (this.facts.duplicates === null) throw new Refusal("this site was exported without a search for duplicates");
    this.report ??= loadJson(`${this.base}duplicates.json`, this.facts.checksums["duplicates.json"]);
    const report = await this.report;
    const matching = where
      ? new Set((await this.call("browse", { offset: 0, top: 1e9, where, order: "id" })).ids)
      : null;
    const counted = report.groups.filter((group) => !matching || group.ids.some((id) => matching.has(id)));
    const kinds = Map.groupBy(counted, (group) => group.kind);
    const all = counted.filter((group) => !kind.length || kind.includes(group.kind));
    const groups = all.slice(offset, offset + top);
    for (const { id, thumb } of groups.flatMap((group) => group.items)) this.thumbs.set(id, thumb);
    const of = ([name, some]) => [name, { groups: some.length, decided: 0 }];
    const progress = { kinds: Object.fromEntries([...kinds].map(of)), dropped: 0, freed: 0, outdated: 0 };
    return { ...report, groups, total: all.length, revision: 0, remark: "", place: null, progress };
  }

  async map({ where = "" } = {}) {
    const { thumbs, ...map } = await this.call("map", where);
    map.ids.forEach((id, n) => this.thumbs.set(id, thumbs[n]));
    return map;
  }

  /** Address of the thumbnail of a loaded item; an empty picture if it has none. */
  thumbnailURL(id) {
    const name = this.thumbs.get(id);
    return name ? new URL(`../thumbs/${name.slice(0, 2)}/${name}.jpg`, this.base).href : "data:,";
  }

  /** Return descriptions in the order of `ids`. */
  async items(ids) {
    const rows = await this.call("rowsOf", ids);
    const pages = await Promise.all(rows.map((row) => this.page(Math.floor(row / this.facts.page))));
    return rows.map((row, n) => pages[n][row % this.facts.page]);
  }

  page(number) {
    const page = this.pages.get(number) ?? this.fetchPage(number);
    this.pages.delete(number);
    this.pages.set(number, page); // the last used page is dropped last
    if (this.pages.size > KEPT_PAGES) this.pages.delete(this.pages.keys().next().value);
    return page;
  }

  async fetchPage(number) {
    try {
      this.sums ??= load(`${this.base}items.bin`, this.facts.checksums["items.bin"]);
      const sum = new Uint32Array(await this.sums)[number];
      const items = await loadJson(`${this.base}items/${Math.floor(number / this.facts.pages)}/${number}.json`, sum);
      for (const { id, thumb } of items) this.thumbs.set(id, thumb);
      return items;
    } catch (error) {
      this.pages.delete(number); // the next call tries again
      this.sums = null;
      throw error;
    }
  }
}
