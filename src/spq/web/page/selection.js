/**
 * The selected pictures: ids in the order of their selection, and with each the distance that it had in the search.
 * It knows nothing of the page. Each step can be undone.
 */

/** @typedef {{id: number, distance?: number | null}} Entry */

export const MOST = 10_000; // pictures; what a ZIP may have
export const EXAMPLES = 16; // pictures that a search uses of them
const STEPS = 30; // that can be undone

export class Selection {
  constructor(most = MOST) {
    this.most = most;
    /** @type {Map<number, number | null>} id -> distance; it is replaced, never changed */
    this.items = new Map();
    /** @type {Map<number, number | null>[]} */
    this.past = [];
    /** @type {Set<() => void>} */
    this.listeners = new Set();
  }

  get size() {
    return this.items.size;
  }

  get ids() {
    return [...this.items.keys()];
  }

  get canUndo() {
    return this.past.length > 0;
  }

  has(/** @type {number} */ id) {
    return this.items.has(id);
  }

  onChange(/** @type {() => void} */ listener) {
    this.listeners.add(listener);
  }

  /**
   * Add pictures, as one step. Those beyond the limit are left out.
   * @param {Iterable<Entry>} entries
   * @returns {number} how many were left out
   */
  add(entries) {
    const { next, left } = this.with(entries);
    this.replace(next);
    return left;
  }

  /** Remove the picture if it is selected, else add it. */
  toggle(/** @type {Entry} */ entry) {
    if (!this.has(entry.id)) return this.add([entry]);
    const next = new Map(this.items);
    next.delete(entry.id);
    this.replace(next);
    return 0;
  }

  clear() {
    this.replace(new Map());
  }

  /** Go back one step. */
  undo() {
    const before = this.past.pop();
    if (!before) return;
    this.items = before;
    this.tell();
  }

  /**
   * Show what a selection would be, without a step: a rubber band calls it for each move, and `commit` at its end.
   * @param {Map<number, number | null>} base what was selected when the band began
   * @param {Iterable<Entry>} entries
   * @returns {number} how many were left out
   */
  preview(base, entries) {
    const { next, left } = this.with(entries, base);
    this.items = next;
    this.tell();
    return left;
  }

  /** Make one step of all since `base`. */
  commit(/** @type {Map<number, number | null>} */ base) {
    const now = this.items;
    this.items = base;
    this.replace(now);
  }

  /** The search is another one: distances of the last one say nothing any more. */
  forgetDistances() {
    if (![...this.items.values()].some((distance) => distance !== null)) return;
    this.items = new Map(this.ids.map((id) => [id, null]));
  }

  /** As text, for `restore`. */
  toText() {
    return JSON.stringify([...this.items]);
  }

  /** Take over what `toText` gave; nothing if it is no such text. */
  restore(/** @type {string | null} */ text) {
    try {
      const pairs = JSON.parse(text ?? "[]").filter(([id]) => Number.isSafeInteger(id) && id >= 0);
      this.items = new Map(pairs.slice(0, this.most).map(([id, distance]) => [id, distance ?? null]));
    } catch {
      this.items = new Map();
    }
    this.past = [];
    this.tell();
  }

  /**
   * @param {Iterable<Entry>} entries
   * @param {Map<number, number | null>} base
   */
  with(entries, base = this.items) {
    const next = new Map(base);
    let left = 0;
    for (const { id, distance } of entries) {
      if (next.size < this.most || next.has(id)) next.set(id, distance ?? next.get(id) ?? null);
      else left++;
    }
    return { next, left };
  }

  /** One step, unless nothing changes. */
  replace(/** @type {Map<number, number | null>} */ next) {
    const same = next.size === this.items.size && [...next.keys()].every((id) => this.items.has(id));
    if (!same) {
      this.past.push(this.items);
      if (this.past.length > STEPS) this.past.shift();
    }
    this.items = next;
    if (!same) this.tell();
  }

  tell() {
    for (const listener of this.listeners) listener();
  }
}

/** Up to `most` of some values, evenly spread. */
export function spread(/** @type {any[]} */ values, /** @type {number} */ most) {
  const step = Math.max(1, values.length / most);
  return Array.from({ length: Math.min(most, values.length) }, (_, n) => values[Math.floor(n * step)]);
}

/** The selection of this page. */
export const selection = new Selection();
