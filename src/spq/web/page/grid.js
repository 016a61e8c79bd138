/**
 * A grid of any length. Only the visible rows are in the document. The grid shows a list (pages.js), which loads what
 * the user scrolls to. One cell is in the tab order; arrow, Home, End and Page keys move the focus.
 */

import { debounce, el } from "./dom.js";

const TALLEST = 8e6; // pixels: browsers draw nothing beyond about 16 million; the rows of a longer grid scroll faster
const SETTLED = 110; // ms without a jump before pictures are loaded
const BESIDE = 1; // height of the rows kept above and below, in windows

export class Grid {
  /** @type {any} */
  root;
  /** @type {any} */
  list = null;
  /** @type {HTMLElement | undefined} */
  scroller;
  /** @type {(width: number) => {columns: number, rowHeight: number, gap: number}} */
  layout = () => ({ columns: 1, rowHeight: 1, gap: 0 });
  /** @type {() => any} */
  create = () => null;
  /** @type {(cell: any, item: any, position: number, isCalm: boolean) => void} */
  fill = () => {};
  /** @type {((first: number, last: number) => void) | undefined} */
  inSight;
  /** @type {((position: number) => void) | undefined} */
  moved;
  /** @type {(() => number) | undefined} */
  inset; // pixels at the top that something covers
  columns = 0;
  rowHeight = 0;
  gap = 0;
  width = 0;
  height = 0; // of all rows
  spacer = 0; // of the grid, at most TALLEST
  count = 0; // of rows
  heldRow = -1; // the invisible row that has the focus
  /** @type {number | null} */
  target = null; // position to scroll to when the length is known

  /**
   * @param {any} root
   * @param {any} options label; layout(width) => {columns, rowHeight, gap}; create() => cell;
   *   fill(cell, item, position, isCalm); inSight(first, last); moved(position) when a key moves to a cell;
   *   scroller: an element, else the window.
   */
  constructor(root, options) {
    Object.assign(this, { root, ...options });
    this.rows = new Map(); // row -> element
    this.spare = [];
    this.active = 0;
    this.isCalm = true;
    this.isDrawn = false;
    root.setAttribute("role", "grid");
    root.setAttribute("aria-label", options.label);
    root.classList.add("grid");
    this.settle = debounce(SETTLED, () => this.calm());
    this.onScroll = () => this.soon();
    (this.scroller ?? window).addEventListener("scroll", this.onScroll, { passive: true });
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(root);
    window.addEventListener("resize", () => this.soon());
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("focusin", (event) => this.focusIn(event));
  }

  /** Show a list from its position `at` on. */
  show(list, at = 0) {
    if (this.list && this.list !== list) this.list.close();
    this.list = list;
    this.target = at; // scrolled to when the length is known
    this.active = at;
    this.clear();
    this.resize();
    this.root.dispatchEvent(new Event("listed", { bubbles: true }));
  }

  /** Draw after the list has loaded more, and tell the page: a picture may be in it now. */
  update() {
    this.measure();
    this.draw(true);
    this.root.dispatchEvent(new Event("listed", { bubbles: true }));
  }

  /** Fill all cells again, after a change outside the list. */
  refill() {
    if (this.list) this.draw(true);
  }

  clear() {
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.spare = [];
  }

  resize() {
    const width = this.root.clientWidth;
    if (!width || !this.list) return;
    const at = this.width && this.width !== width ? this.first() : null;
    this.width = width;
    const { columns, rowHeight, gap } = this.layout(width);
    const hadFocus = columns !== this.columns && this.root.contains(document.activeElement);
    if (columns !== this.columns) this.clear();
    Object.assign(this, { columns, rowHeight, gap });
    this.root.style.setProperty("--columns", columns);
    this.root.style.setProperty("--row", `${rowHeight}px`);
    this.root.setAttribute("aria-colcount", columns);
    this.measure();
    if (at) this.scrollTo(at);
    this.draw(true);
    if (hadFocus) this.focus(); // its cell is a new element
  }

  measure() {
    if (!this.columns) return;
    const total = this.list.total;
    this.count = total === null ? 0 : Math.ceil(total / this.columns);
    this.height = this.count * this.rowHeight;
    this.spacer = Math.min(this.height, TALLEST);
    this.root.style.height = `${this.spacer}px`;
    this.root.setAttribute("aria-rowcount", this.list.isExact ? this.count : -1);
    if (this.target !== null && total !== null) {
      const target = this.target;
      this.target = null;
      if (target > 0 && target < total) this.scrollTo(target);
    }
  }

  /** Height of the window, and how far the grid is scrolled in its own pixels. */
  view() {
    const box = this.root.getBoundingClientRect();
    const outer = this.scroller?.getBoundingClientRect();
    const height = outer ? outer.height : window.innerHeight;
    const scrolled = (outer ? outer.top : 0) - box.top;
    const room = this.spacer - height;
    const scale = this.height > this.spacer && room > 0 ? (this.height - height) / room : 1;
    return { height, scrolled, top: scrolled * scale, scale };
  }

  /** First position that is completely visible. */
  first() {
    const { top } = this.view();
    const inset = this.inset?.() ?? 0;
    const row = Math.ceil((top + inset - 2) / this.rowHeight);
    return Math.max(0, row) * this.columns;
  }

  soon() {
    if (this.isWaiting || !this.list) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      this.draw(false);
    });
  }

  calm() {
    if (this.isCalm) return;
    this.isCalm = true;
    this.draw(true);
  }

  draw(refill) {
    if (!this.list || !this.columns || !this.root.clientWidth) return;
    const { height, scrolled, top } = this.view();
    if (Math.abs(top - (this.lastTop ?? top)) > 1.5 * height) this.isCalm = false; // a jump: load pictures after it
    if (!this.isCalm) this.settle();
    this.lastTop = top;
    const from = Math.max(0, Math.floor((top - BESIDE * height) / this.rowHeight));
    const to = Math.min(this.count - 1, Math.ceil((top + (1 + BESIDE) * height) / this.rowHeight));
    const at = this.target ?? from * this.columns;
    if (this.isCalm || this.list.total === null) {
      const far = this.list.total === null ? at : (to + 1) * this.columns - 1;
      this.list.want(at, Math.max(at, far));
    }
    this.recycle(from, to);
    for (let row = from; row <= to; row++) this.place(row, top - scrolled, refill);
    const focused = this.rows.get(this.heldRow);
    if (focused && (this.heldRow < from || this.heldRow > to)) this.place(this.heldRow, top - scrolled, refill);
    this.keepReachable();
    this.inSight?.(this.first(), Math.min(this.list.total ?? 0, (to + 1) * this.columns) - 1);
  }

  /** Keep a cell in the tab order after a scroll. */
  keepReachable() {
    if (!this.list.total || this.rows.has(Math.floor(this.active / this.columns))) return;
    this.activate(Math.min(this.list.total - 1, this.first()));
  }

  /** Reuse the rows that are no longer visible, except the one that has the focus. */
  recycle(from, to) {
    this.heldRow = -1;
    for (const [row, element] of this.rows) {
      if (row >= from && row <= to) continue;
      if (element.contains(document.activeElement) && row < this.count) this.heldRow = row;
      else {
        this.rows.delete(row);
        element.hidden = true;
        this.spare.push(element);
      }
    }
  }

  place(row, shift, refill) {
    let element = this.rows.get(row);
    const isNew = !element;
    if (isNew) {
      element = this.spare.pop() ?? this.makeRow();
      this.rows.set(row, element);
      element.hidden = false;
      element.setAttribute("aria-rowindex", row + 1);
    }
    element.style.transform = `translateY(${row * this.rowHeight - shift}px)`;
    if (!isNew && !refill) return;
    [...element.children].forEach((cell, column) => {
      const position = row * this.columns + column;
      const isThere = position < this.list.total;
      cell.hidden = !isThere;
      cell.dataset.position = position;
      cell.tabIndex = position === this.active ? 0 : -1;
      if (isThere) this.fill(cell, this.list.get(position), position, this.isCalm);
    });
  }

  makeRow() {
    const cells = Array.from({ length: this.columns }, (_, column) => {
      const cell = this.create();
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-colindex", column + 1);
      return cell;
    });
    const row = el("div", { class: "row", role: "row" }, cells);
    this.root.append(row);
    return row;
  }

  cell(position) {
    return this.rows.get(Math.floor(position / this.columns))?.children[position % this.columns];
  }

  positionOf(element) {
    const cell = element.closest?.("[role=gridcell]");
    return cell && this.root.contains(cell) ? Number(cell.dataset.position) : null;
  }

  /** Scroll so that the row of a position is the first visible one. */
  scrollTo(position) {
    const inset = this.inset?.() ?? 0;
    this.scrollToRow(Math.floor(position / this.columns) * this.rowHeight - inset);
  }

  scrollToRow(top) {
    const { scrolled, scale } = this.view();
    const by = top / scale - scrolled;
    (this.scroller ?? window).scrollBy({ top: by, behavior: "instant" });
  }

  focusIn(event) {
    const position = this.positionOf(event.target);
    if (position !== null && position !== this.active) this.activate(position);
  }

  activate(position) {
    const before = this.cell(this.active);
    if (before) before.tabIndex = -1;
    this.active = position;
    const cell = this.cell(position);
    if (cell) cell.tabIndex = 0;
  }

  /** Focus a position, and scroll to it if needed. */
  focus(position = this.active) {
    if (!this.list?.total) return;
    const last = this.list.total - 1;
    const to = Math.max(0, Math.min(last, position));
    this.activate(to);
    const { top, height } = this.view();
    const inset = this.inset?.() ?? 0;
    const y = Math.floor(to / this.columns) * this.rowHeight;
    if (y < top + inset) this.scrollToRow(y - inset - this.gap);
    else if (y + this.rowHeight > top + height) this.scrollToRow(y + this.rowHeight - height + this.gap);
    this.draw(false);
    this.cell(to)?.focus({ preventScroll: true });
    this.moved?.(to);
  }

  key(event) {
    if (event.target.getAttribute("role") !== "gridcell" || event.altKey || event.metaKey) return;
    const { active, columns } = this;
    const page = Math.max(1, Math.floor(this.view().height / this.rowHeight) - 1) * columns;
    const row = active - (active % columns);
    const all = event.ctrlKey;
    const to = {
      ArrowLeft: active - 1,
      ArrowRight: active + 1,
      ArrowUp: active - columns,
      ArrowDown: active + columns,
      PageUp: active - page,
      PageDown: active + page,
      Home: all ? 0 : row,
      End: all ? this.list.total - 1 : row + columns - 1,
    }[event.key];
    if (to === undefined || (all && !["Home", "End"].includes(event.key))) return;
    event.preventDefault();
    if (event.key === "ArrowUp" && to < 0) return;
    this.focus(to);
  }
}
