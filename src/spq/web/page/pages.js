/** Long lists. Only visible pages are loaded, and only the last used pages are kept. */

import { isAbort } from "./dom.js";

const KEPT = 40; // pages
const AT_ONCE = 1000; // items, when many are collected

export class Pages {
  /**
   * @param {(offset: number, top: number, signal: AbortSignal) => Promise<Page>} fetchPage
   * @param {{top?: number, expected?: number, changed: (pages: Pages) => void, failed: (error: any) => void}} options
   *   changed: called after a page was loaded; failed: after a failure.
   */
  constructor(fetchPage, { top = 100, expected = 0, changed, failed }) {
    this.fetchPage = fetchPage;
    this.top = top;
    this.changed = changed;
    this.failed = failed;
    this.closed = false;
    /** @type {number?} */
    this.total = null; // not known yet
    this.isExact = false; // whether `total` is final; else it grows with scrolling
    this.expected = expected; // how far the user had scrolled
    this.pages = new Map(); // number -> items, the last used one last
    this.requests = new Map(); // number -> AbortController
    this.closing = new AbortController(); // ends what `collect` loads
    /** @type {any} */
    this.error = null;
  }

  get(position) {
    const page = this.pages.get(Math.floor(position / this.top));
    return page?.[position % this.top];
  }

  /** Load the pages from position `first` to `last` that are missing, and mark the others as used. */
  want(first, last) {
    if (this.error || this.closed) return;
    const numbers = new Set();
    for (let n = Math.floor(first / this.top); n <= Math.floor(Math.max(first, last) / this.top); n++) numbers.add(n);
    for (const [n, controller] of this.requests) {
      if (!numbers.has(n)) {
        controller.abort(); // no longer visible
        this.requests.delete(n);
      }
    }
    for (const n of numbers) {
      if (this.pages.has(n)) this.keep(n, this.pages.get(n));
      else if (!this.requests.has(n) && (this.total === null || n * this.top < this.total)) this.fetch(n);
    }
  }

  async fetch(n) {
    const controller = new AbortController();
    this.requests.set(n, controller);
    try {
      const page = await this.fetchPage(n * this.top, this.top, controller.signal);
      if (this.closed || this.requests.get(n) !== controller) return;
      this.requests.delete(n);
      this.keep(n, page.items);
      this.learn(n, page);
      this.changed(this);
    } catch (error) {
      if (this.requests.get(n) === controller) this.requests.delete(n);
      if (isAbort(error) || this.closed) return;
      this.error = error;
      this.failed(error);
    }
  }

  /**
   * All items from position `first` to `last`, or to the end of the list. Those that are not loaded are loaded now.
   * @param {number} first
   * @param {number} last
   * @returns {Promise<any[]>}
   */
  async collect(first, last) {
    const found = [];
    for (let at = first; at <= last; at = first + found.length) {
      const item = this.get(at);
      if (item !== undefined) found.push(item);
      else if (this.isExact && at >= (this.total ?? 0)) break;
      else {
        const top = Math.min(AT_ONCE, last - at + 1);
        const { items } = await this.fetchPage(at, top, this.closing.signal);
        found.push(...items);
        if (items.length < top) break;
      }
    }
    return found;
  }

  /** The positions whose items are loaded, in any order. A list may be long: what looks at all of it looks at these. */
  loaded() {
    return [...this.pages].flatMap(([n, items]) => items.map((_, at) => n * this.top + at));
  }

  /** Position of an item, if it is loaded; else -1. */
  find(/** @type {number} */ id) {
    for (const [n, items] of this.pages) {
      const at = items.findIndex((item) => item.id === id);
      if (at >= 0) return n * this.top + at;
    }
    return -1;
  }

  /** Update the length. If it is unknown, assume one page more than was loaded. */
  learn(n, /** @type {Page} */ { items, total, ends }) {
    const end = n * this.top + items.length;
    if (!ends) {
      this.total = total;
      this.isExact = true;
    } else if (items.length < this.top) {
      // an empty page only means that the list ends before it; the page before it is needed, too
      this.total = Math.min(this.total ?? Infinity, end);
      this.isExact = items.length > 0 || n === 0 || this.pages.has(n - 1);
    } else if (!this.isExact) {
      this.total = Math.min(total, Math.max(this.total ?? 0, end + this.top, this.expected));
    }
  }

  keep(n, items) {
    this.pages.delete(n);
    this.pages.set(n, items);
    while (this.pages.size > KEPT) this.pages.delete(this.pages.keys().next().value);
  }

  /** Try again after an error. */
  retry() {
    this.error = null;
    this.changed(this);
  }

  close() {
    this.closed = true;
    this.closing.abort();
    for (const controller of this.requests.values()) controller.abort();
    this.requests.clear();
  }
}

/** A complete list with the same methods. */
export class Listed {
  constructor(items) {
    this.items = items;
    this.total = items.length;
    this.isExact = true;
  }

  get(position) {
    return this.items[position];
  }

  async collect(/** @type {number} */ first, /** @type {number} */ last) {
    return this.items.slice(first, last + 1);
  }

  find(/** @type {number} */ id) {
    return this.items.findIndex((item) => item.id === id);
  }

  want() {}

  close() {}
}
