/** Selecting with mouse, finger and keys: check marks, Ctrl and Shift, a long press, a rubber band, all results. */

import { $$, closest, el, isAbort, toast, untilUp } from "./dom.js";
import { MOST, selection } from "./selection.js";
import { told } from "./selection_bar.js";

const LONG = 450; // ms of a press
const STILL = 10; // pixels that a finger may move meanwhile
const DRAGGED = 6; // pixels until a press of the mouse is a drag
const EDGE = 40; // pixels of the window where a drag scrolls
const NO_BAND = "a:not(.picture), button, input, select, label, canvas, progress, .message, .lead, .toolbar, header";
const GRIDS = "#grid, #map-grid, #word-grid";
/** @type {{list: any, position: number} | null} */
let anchor = null; // where a range begins
let isHandled = false; // the click that ends a drag or a long press is none
let isTouch = false;

/** @param {() => any} grid the grid of the current view, if it has one */
export function startGestures(grid) {
  document.addEventListener("pointerdown", (event) => {
    isHandled = false;
    isTouch = event.pointerType !== "mouse";
    if (isTouch) press(event, grid);
    else if (event.button === 0) startBand(event, grid);
  });
  document.addEventListener("keydown", (event) => extend(event, grid()));
  for (const root of $$(GRIDS)) root.setAttribute("aria-multiselectable", "true");
  document.addEventListener("dragstart", (event) => closest(event, ".tile") && event.preventDefault());
  document.addEventListener("contextmenu", (event) => isTouch && closest(event, ".tile") && event.preventDefault());
}

/**
 * Handle a click on a tile if it selects something.
 * @param {MouseEvent} event
 * @param {any} cell
 * @param {any} grid
 * @returns {boolean} whether it did
 */
export function clickSelects(event, cell, grid) {
  if (isHandled) {
    event.preventDefault();
    return true;
  }
  const isTick = Boolean(closest(event, ".tick"));
  const isPicture = Boolean(closest(event, ".picture"));
  if (event.shiftKey && (isTick || isPicture)) selectTo(cell, grid);
  else if (isTick || (isPicture && (event.ctrlKey || event.metaKey || (isTouch && selection.size)))) {
    toggle(cell, grid);
  } else return false;
  event.preventDefault();
  return true;
}

/** Select a picture of the grid, or remove it from the selection. */
export function toggle(/** @type {any} */ cell, /** @type {any} */ grid) {
  const position = grid?.positionOf(cell) ?? null;
  anchor = position === null ? null : { list: grid.list, position };
  told(selection.toggle(entryOf(grid, position, cell)));
}

/** Select all from the last selected picture to this one. */
function selectTo(cell, grid) {
  const position = grid?.positionOf(cell) ?? null;
  if (position === null || !anchor || anchor.list !== grid.list) return toggle(cell, grid);
  const [first, last] = [anchor.position, position].sort((a, b) => a - b);
  return addRange(grid.list, first, last);
}

/** Shift and an arrow select on the way. The grid has moved the focus already. */
function extend(event, grid) {
  if (!event.shiftKey || !event.defaultPrevented || !/^(Arrow|Page|Home|End)/.test(event.key)) return;
  const position = grid?.positionOf(event.target) ?? null;
  if (position === null || !document.activeElement?.matches(".tile")) return;
  if (anchor?.list !== grid.list) {
    anchor = { list: grid.list, position };
    selection.add([entryOf(grid, position, event.target)]);
  }
  selectTo(document.activeElement, grid);
}

/** Select all results, up to the limit. */
export async function selectAll(/** @type {any} */ list) {
  if (!list?.total) return;
  await addRange(list, 0, Number.MAX_SAFE_INTEGER);
}

async function addRange(list, first, last) {
  document.body.classList.add("busy");
  try {
    const items = await list.collect(first, Math.min(last, first + MOST));
    const room = items.length > MOST ? items.slice(0, MOST) : items;
    const more =
      items.length > MOST ? (list.isExact ? Math.min(last + 1, list.total) - first : items.length) - MOST : 0;
    told(selection.add(room) + more);
  } catch (error) {
    if (!isAbort(error)) toast(error.message);
  } finally {
    document.body.classList.remove("busy");
  }
}

const entryOf = (grid, position, cell) =>
  (position === null ? null : grid.list.get(position)) ?? { id: Number(cell.dataset.id) };

/** A finger that rests on a picture selects it. */
function press(event, grid) {
  const cell = closest(event, ".tile[data-id]");
  if (!cell || closest(event, "button")) return;
  const id = cell.dataset.id;
  const timer = setTimeout(() => {
    if (cell.dataset.id !== id) return;
    isHandled = true;
    navigator.vibrate?.(20);
    toggle(cell, grid());
  }, LONG);
  const stop = (/** @type {any} */ moved) => {
    if (moved.type === "pointermove" && away(event, moved) <= STILL) return;
    clearTimeout(timer);
    for (const type of ["pointermove", "pointerup", "pointercancel"]) document.removeEventListener(type, stop);
  };
  for (const type of ["pointermove", "pointerup", "pointercancel"]) document.addEventListener(type, stop);
}

const away = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);

/** A drag of the mouse draws a band, which selects what it touches. */
function startBand(event, find) {
  const grid = find();
  if (!grid?.list?.total || !closest(event, "#main") || closest(event, NO_BAND)) return;
  const box = grid.root.getBoundingClientRect();
  if (event.clientX > document.documentElement.clientWidth || event.clientY < box.top - 200) return;
  const band = new Band(grid, event);
  untilUp(
    window,
    (/** @type {PointerEvent} */ moved) => band.move(moved),
    () => band.end(),
  );
}

class Band {
  constructor(/** @type {any} */ grid, /** @type {PointerEvent} */ event) {
    this.grid = grid;
    this.list = grid.list;
    this.begin = event;
    this.now = event;
    this.start = this.point(event);
    this.base = selection.items;
    /** @type {any} */
    this.element = null;
  }

  /** A place in the rows of the grid, which may be scrolled meanwhile. */
  point({ clientX, clientY }) {
    const { top } = this.grid.view();
    const outer = this.grid.scroller?.getBoundingClientRect().top ?? 0;
    return [clientX - this.grid.root.getBoundingClientRect().left, clientY - outer + top];
  }

  move(event) {
    if (!this.element && away(event, this.begin) < DRAGGED) return;
    if (!this.element) {
      this.element = el("div", { class: "band", "aria-hidden": "true" });
      document.body.append(this.element);
      document.body.classList.add("banding");
      isHandled = true;
      this.scroll();
    }
    this.now = event;
    this.draw();
  }

  /** Scroll as long as the mouse is at an edge. */
  scroll() {
    if (!this.element) return;
    const y = this.now.clientY;
    const by = y < EDGE ? y - EDGE : Math.max(0, y - window.innerHeight + EDGE);
    if (by) {
      (this.grid.scroller ?? window).scrollBy({ top: by / 2, behavior: "instant" });
      this.draw();
    }
    requestAnimationFrame(() => this.scroll());
  }

  draw() {
    const [x0, y0] = this.start;
    const [x1, y1] = this.point(this.now);
    const left = this.now.clientX - x1;
    const top = this.now.clientY - y1;
    Object.assign(this.element.style, {
      transform: `translate(${left + Math.min(x0, x1)}px, ${top + Math.min(y0, y1)}px)`,
      width: `${Math.abs(x1 - x0)}px`,
      height: `${Math.abs(y1 - y0)}px`,
    });
    const inside = this.positions();
    const key = `${inside[0]} ${inside.at(-1)} ${inside.length}`;
    if (key === this.key) return;
    this.key = key;
    selection.preview(this.base, inside.map((position) => this.list.get(position)).filter(Boolean));
  }

  /** Positions of the cells that the band touches. */
  positions() {
    const { columns, rowHeight, gap, root } = this.grid;
    const [x0, y0] = this.start;
    const [x1, y1] = this.point(this.now);
    const side = (root.clientWidth + gap) / columns;
    const range = (a, b, size, space, most) => {
      const first = Math.max(0, Math.floor((Math.min(a, b) + space) / size));
      const last = Math.min(most - 1, Math.floor(Math.max(a, b) / size));
      return Array.from({ length: Math.max(0, last - first + 1) }, (_, n) => first + n);
    };
    const across = range(x0, x1, side, gap, columns);
    const down = range(y0, y1, rowHeight, gap, Math.ceil(this.list.total / columns));
    return down
      .flatMap((row) => across.map((column) => row * columns + column))
      .filter((position) => position < this.list.total);
  }

  async end() {
    if (!this.element) return;
    this.element.remove();
    this.element = null;
    document.body.classList.remove("banding");
    const inside = this.positions();
    const missing = inside.filter((position) => !this.list.get(position));
    if (missing.length) {
      const items = await this.list.collect(inside[0], inside.at(-1)).catch(() => []);
      const first = inside[0];
      told(selection.preview(this.base, inside.map((position) => items[position - first]).filter(Boolean)));
    }
    selection.commit(this.base);
    if (inside.length) anchor = { list: this.list, position: /** @type {number} */ (inside.at(-1)) };
    for (const cell of $$(".tile:focus")) cell.blur();
  }
}
