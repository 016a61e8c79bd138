// The collection of a site, as the server's API tells it (the same objects), but read from files and searched in a worker.

const KEPT_PAGES = 500; // of descriptions: some 32,000 pictures

/** Made by `open`. Each method takes and gives what the API's request of that name does. */
export class Source {
  static async open() {
    const source = new Source();
    source.base = new URL("./", import.meta.url).href;
    source.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    source.waiting = new Map();
    source.number = 0;
    source.worker.onmessage = ({ data }) => source.answered(data);
    source.worker.onerror = (event) => source.failed(event.message || "this browser cannot run the search; try a newer one");
    source.pages = new Map();
    source.thumbs = new Map(); // id -> name, of all items that were handed out
    source.files = new Map();
    source.facts = await source.call("load", source.base);
    return source;
  }

  /** What a method of the worker's index gives. */
  call(method, argument) {
    return new Promise((resolve, reject) => {
      this.waiting.set(++this.number, { resolve, reject });
      this.worker.postMessage({ number: this.number, method, argument });
    });
  }

  answered({ number, result, error }) {
    const { resolve, reject } = this.waiting.get(number);
    this.waiting.delete(number);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  }

  failed(message) {
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
  }

  status() {
    const still = { watching: false, sync: null, sync_error: null, last_sync: null, new_since: null };
    return { ...this.facts, ...still };
  }

  /** Whether a visitor's own pictures can be searched with. */
  get takesPictures() {
    return this.facts.runtime !== null;
  }

  /**
   * @param query as the API's: ids, not_ids, weights, box, top, offset, where, max_distance, fold.
   * @param pictures, notPictures Blobs.
   */
  async search(query, pictures = [], notPictures = []) {
    const start = performance.now();
    const asked = { ...query, ...(await this.described(query, pictures, notPictures)) };
    const found = await this.call("search", asked);
    const items = await this.items(found.ids);
    const hits = items.map(({ id, path, label, width, height }, n) => ({
      rank: (query.offset ?? 0) + n + 1, id, distance: found.distances[n], path, label, width, height,
      folded: found.folded[n].slice(0, 100), folded_total: found.folded[n].length,
    }));
    const seconds = (performance.now() - start) / 1000;
    return { hits, total: found.total, seconds, generation: this.facts.generation };
  }

  async explain(query, id, pictures = [], notPictures = []) {
    return this.call("explain", { ...query, ...(await this.described(query, pictures, notPictures)), id });
  }

  /** Descriptors of pictures; each is embedded once. */
  async described({ box = null, ids = [] }, pictures, notPictures) {
    if (!pictures.length && !notPictures.length) {
      if (box) throw new Error("a box needs a picture of your own: this site has no originals to cut");
      return {};
    }
    if (!this.takesPictures) throw new Error("this site cannot search by pictures of one's own; click one of its pictures");
    if (box && pictures.length + ids.length !== 1) throw new Error("a box belongs to one picture; give one");
    this.descriptors ??= new WeakMap();
    const describe = (picture, region) => {
      const known = this.descriptors.get(picture) ?? new Map();
      this.descriptors.set(picture, known);
      const key = String(region);
      if (!known.has(key)) known.set(key, this.call("describe", { picture, box: region }));
      return known.get(key);
    };
    return {
      described: await Promise.all(pictures.map((picture) => describe(picture, box))),
      not_described: await Promise.all(notPictures.map((picture) => describe(picture, null))),
    };
  }

  async browse({ offset = 0, top = 100, where = null, order = "id" } = {}) {
    const found = await this.call("browse", { offset, top, where, order });
    return { items: await this.items(found.ids), total: found.total, generation: this.facts.generation };
  }

  async item(id) {
    const [item] = await this.items([id]);
    return { ...item, code: await this.call("codeOf", id) };
  }

  async codewords() {
    const counts = await this.call("usage");
    return { codebooks: this.facts.codebooks, codewords: this.facts.codewords, counts };
  }

  async codeword(m, k, { offset = 0, top = 100 } = {}) {
    const { count, ids } = await this.call("members", { m, k, offset, top });
    return { m, k, count, items: await this.items(ids) };
  }

  /** As the export found them, or null if it was not told to look. */
  async duplicates() {
    if (this.facts.duplicates === null) return null;
    const report = await (await this.file("duplicates.json")).json();
    await this.items(report.groups.flatMap((group) => group.ids)); // for their thumbnails
    return report;
  }

  /** {ids, x, y, count, total}: typed arrays. */
  map() {
    return this.call("map");
  }

  /** Address of the thumbnail of an item that was handed out; "" where there is none. */
  thumbnail(id) {
    const name = this.thumbs.get(id);
    return name ? new URL(`../thumbs/${name.slice(0, 2)}/${name}.jpg`, this.base).href : "";
  }

  /** Descriptions of ids, in their order. */
  async items(ids) {
    const rows = await this.call("rowsOf", ids);
    const pages = await Promise.all(rows.map((row) => this.page(Math.floor(row / this.facts.page))));
    return rows.map((row, n) => pages[n][row % this.facts.page]);
  }

  page(number) {
    const page = this.pages.get(number) ?? this.fetchPage(number);
    this.pages.delete(number);
    this.pages.set(number, page); // the last one asked for is the last one dropped
    if (this.pages.size > KEPT_PAGES) this.pages.delete(this.pages.keys().next().value);
    return page;
  }

  async fetchPage(number) {
    try {
      const items = await (await this.file(`items/${Math.floor(number / this.facts.pages)}/${number}.json`)).json();
      for (const { id, thumb } of items) this.thumbs.set(id, thumb);
      return items;
    } catch (error) {
      this.pages.delete(number); // another try may succeed
      throw error;
    }
  }

  async file(name) {
    const answer = await fetch(this.base + name);
    if (!answer.ok) throw new Error(`${name} is missing on this site (${answer.status}); reload the page`);
    return answer;
  }
}
