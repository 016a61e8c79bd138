/** Long lists, of which only what is looked at is fetched, and only what was looked at lately is kept. */

import { isAbort } from "./dom.js";

const KEPT = 40; // pages

export class Pages {
  /**
   * @param fetchPage async (offset, top, signal) => {items, total, ends}: `ends` says that a short page is the last one.
   * @param changed called when there is more to show; failed(error) when there is not.
   */
  constructor(fetchPage, { top = 100, expected = 0, changed, failed }) {
    Object.assign(this, { fetchPage, top, changed, failed });
    this.total = null; // not known yet
    this.isExact = false; // whether total is, or grows as one scrolls
    this.expected = expected; // how far one had scrolled
    this.pages = new Map(); // number -> items, the last used one last
    this.asked = new Map(); // number -> AbortController
    this.error = null;
  }

  get(position) {
    const page = this.pages.get(Math.floor(position / this.top));
    return page?.[position % this.top];
  }

  /** What was kept of the positions from `first` to `last` is now the newest, and what is missing is fetched. */
  want(first, last) {
    if (this.error || this.closed) return;
    const numbers = new Set();
    for (let n = Math.floor(first / this.top); n <= Math.floor(Math.max(first, last) / this.top); n++) numbers.add(n);
    for (const [n, controller] of this.asked) {
      if (!numbers.has(n)) {
        controller.abort(); // scrolled past
        this.asked.delete(n);
      }
    }
    for (const n of numbers) {
      if (this.pages.has(n)) this.keep(n, this.pages.get(n));
      else if (!this.asked.has(n) && (this.total === null || n * this.top < this.total)) this.fetch(n);
    }
  }

  async fetch(n) {
    const controller = new AbortController();
    this.asked.set(n, controller);
    try {
      const page = await this.fetchPage(n * this.top, this.top, controller.signal);
      if (this.closed || this.asked.get(n) !== controller) return;
      this.asked.delete(n);
      this.keep(n, page.items);
      this.learn(n, page);
      this.changed(this);
    } catch (error) {
      if (this.asked.get(n) === controller) this.asked.delete(n);
      if (isAbort(error) || this.closed) return;
      this.error = error;
      this.failed(error);
    }
  }

  /** How long the list is. Where that is not told, it is as long as what was seen, and a page more. */
  learn(n, { items, total, ends }) {
    const end = n * this.top + items.length;
    if (!ends) {
      this.total = total;
      this.isExact = true;
    } else if (items.length < this.top) {
      // an empty page says only that the list ends before it: the one before it has to be seen
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

  /** Once more, after an error. */
  retry() {
    this.error = null;
    this.changed(this);
  }

  close() {
    this.closed = true;
    for (const controller of this.asked.values()) controller.abort();
    this.asked.clear();
  }
}

/** A list that is known at once, with the same methods. */
export class Listed {
  constructor(items) {
    this.items = items;
    this.total = items.length;
    this.isExact = true;
  }

  get(position) {
    return this.items[position];
  }

  want() {}

  close() {}
}
