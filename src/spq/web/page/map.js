/** The whole collection on a plane: drag to move, wheel or pinch to zoom, a lasso lists the pictures inside. */

import { api } from "./api.js";
import { $, announce, count, debounce, fileName, isAbort, number } from "./dom.js";
import { openDetails } from "./details.js";
import { loadItem } from "./search_request.js";
import { Grid } from "./grid.js";
import { paintLasso, paintPictures, paintPoints } from "./map_painting.js";
import { cells, Stamps, within } from "./mosaic.js";
import { Listed } from "./pages.js";
import { Plane } from "./plane.js";
import { showMessage } from "./results.js";
import { select } from "./selection_bar.js";
import { change, newSearch, remember, state } from "./state.js";
import { fillTile, tile } from "./tile.js";
import { words } from "./words.js";

const CELL = 62; // CSS pixels of a mosaic cell; it doubles up to the next zoom level
const SMALL_CELL = 44; // on a phone
const CORNERS = 48; // of a lasso in the address
const EXAMPLES = 16; // pictures of a selection that a search uses

export class CollectionMap extends Plane {
  /** @type {((item: any) => void) | null} */
  moved = null; // called when a key moves to a picture
  /** @type {any} */
  data = null; // what the filter leaves
  /** @type {any} */
  whole = null; // all points
  asked = ""; // the method that the state asked for then
  start = [0, 0]; // where the pointer went down
  ratio = 1; // pixels of the canvas per CSS pixel
  levelsBase = 0; // scale of the cells in `levels`
  /** @type {number[]} */
  selection = []; // ids in the lasso
  /** @type {any[]} */
  shown = []; // the cells on the screen

  constructor() {
    super();
    this.root = $("#map");
    this.canvas = $("#plane");
    this.hover = $("#map-hover");
    this.pointers = new Map();
    this.levels = new Map();
    this.stamps = new Stamps(
      (id) => api.thumbnailURL(id, 128),
      () => this.draw(),
    );
    this.keep = debounce(250, () => !this.root.hidden && remember({ map: this.place(), layout: this.whole.method }));
    this.list = new Grid($("#map-grid"), {
      label: "Pictures in the lasso",
      scroller: $("#map-scroll"),
      layout: (width) => {
        const columns = Math.max(2, Math.round(width / 118));
        return { columns, gap: 6, rowHeight: (width - 6 * (columns - 1)) / columns + 6 };
      },
      create: tile,
      fill: (cell, item, _position, isCalm) => fillTile(cell, item, isCalm),
      moved: (position) => this.moved?.(this.list.list.get(position)),
    });
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.listen();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event, true));
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const scale = event.deltaMode === 1 ? 16 : 1;
        this.zoom(-event.deltaY * scale * (event.ctrlKey ? 0.012 : 0.0022), event.offsetX, event.offsetY);
      },
      { passive: false },
    );
    canvas.addEventListener("dblclick", (event) => this.zoom(1, event.offsetX, event.offsetY));
    canvas.addEventListener("keydown", (event) => this.key(event));
    $("#zoom-in").addEventListener("click", () => this.zoom(0.7));
    $("#zoom-out").addEventListener("click", () => this.zoom(-0.7));
    $("#zoom-fit").addEventListener("click", () => this.fit());
    $("#lasso").addEventListener("click", () => this.arm(!this.isLasso));
    $("#select-view").addEventListener("click", () => this.selectView());
    $("#map-close").addEventListener("click", () => change({ lasso: null }));
    $("#map-arrange").addEventListener("click", () => this.arrange());
    $("#map-search").addEventListener("click", () => this.searchSelection());
    $("#map-select").textContent = words.selection.these;
    $("#map-select").addEventListener("click", () => select(this.selection));
  }

  update(changed) {
    if (!changed || !this.data || changed.has("view") || changed.has("where") || changed.has("layout")) this.load();
    else if (changed.has("lasso")) this.select();
    else if (this.list.list) this.list.refill();
    if (changed?.has("map") && this.data) {
      this.restore(state.map);
      this.draw();
    }
  }

  async load() {
    this.controller?.abort(); // of another filter
    if (this.data && this.where === state.where && this.asked === state.layout) {
      this.resize();
      this.select(); // the lasso may have changed while the map was hidden
      return;
    }
    const { signal } = (this.controller = new AbortController());
    this.root.classList.add("busy");
    showMessage($("#map-message"), null);
    try {
      const { where } = state;
      const method = state.layout;
      if (!this.whole || this.asked !== method) this.whole = await api.map({ method }, signal);
      this.asked = method;
      this.data = where ? await api.map({ where, method: this.whole.method }, signal) : this.whole;
      this.where = where;
      this.wait(signal);
    } catch (error) {
      if (isAbort(error)) return;
      this.where = null; // the map shows the result of no filter
      showMessage($("#map-message"), {
        title: "The map could not be drawn",
        text: error.message,
        action: ["Try again", () => this.load()],
        isError: true,
      });
      return;
    } finally {
      this.root.classList.remove("busy");
    }
    this.begin();
  }

  /** While the places by neighbours are computed, say how far this is; then show them, or offer to. */
  async wait(signal) {
    const line = $("#map-progress");
    let { arranging, method } = this.whole;
    line.hidden = method !== "pca" || arranging?.state === "failed";
    $("#map-arrange").hidden = arranging !== null || method !== "pca";
    while (arranging) {
      line.textContent = words.map.arranging[arranging.state](arranging);
      if (arranging.state !== "computing") return;
      await new Promise((resolve) => setTimeout(resolve, 1500));
      if (signal.aborted || this.root.hidden) return;
      arranging = (await api.mapProgress(signal).catch(() => ({ arranging }))).arranging;
    }
    line.hidden = true;
    if (method !== "pca") return;
    if (state.map || state.lasso) $("#map-arrange").hidden = false;
    else this.arrange();
  }

  /** Show the places by neighbours. */
  arrange() {
    this.whole = this.center = null;
    change({ layout: "neighbours", map: null, lasso: null }, "replace");
  }

  begin() {
    const { ids, count: drawn, total } = this.data;
    const { x, y } = this.whole; // positions stay the same with a filter
    this.levels.clear();
    if (!x.length)
      showMessage($("#map-message"), { title: "No pictures yet", text: "The map shows the whole collection at once." });
    else if (!ids.length)
      showMessage($("#map-message"), {
        title: "No picture matches",
        text: `No picture on the map matches ${this.where}.`,
      });
    this.hold(x, y);
    const all = this.where ? `${number(total)} of ${count(this.whole.total, "picture")}` : count(total, "picture");
    $("#map-text").textContent = drawn < total ? `${number(drawn)} of ${all}, a random sample` : all;
    this.resize();
    this.select();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !this.data) return;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    Object.assign(this, { width, height, ratio, side: width < 560 ? SMALL_CELL : CELL });
    this.fill();
    if (!this.center) this.restore(state.map);
    this.draw();
  }

  /** Called after the plane has moved. */
  changed() {
    this.keep();
    this.draw();
  }

  draw() {
    if (this.isWaiting || !this.data || !this.center || this.root.hidden) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      this.paint();
    });
  }

  /** Cells of the current zoom level. */
  mosaic() {
    const level = Math.floor(this.level);
    if (!this.levels.has(level)) {
      if (this.levels.size > 4) this.levels.delete(this.levels.keys().next().value);
      this.levels.set(level, cells(this.data.x, this.data.y, this.side / (this.base * 2 ** level)));
      this.levelsBase = this.base;
    }
    return this.levels.get(level);
  }

  paint() {
    if (this.levelsBase !== this.base) this.levels.clear();
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    paintPoints(this, context, style.color);
    paintPictures(this, context, style.caretColor); // the accent colour in a form that a canvas accepts
    paintLasso(this, context, style.caretColor);
  }

  arm(is) {
    this.isLasso = is;
    $("#lasso").setAttribute("aria-pressed", is);
    this.canvas.classList.toggle("lasso", is);
  }

  down(event) {
    if (event.button > 0 || !this.data) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.start = [event.offsetX, event.offsetY];
    this.isDragged = this.pointers.size > 1;
    if (this.pointers.size > 1) this.drawing = null;
    else if (this.isLasso || event.shiftKey) this.drawing = this.toPlane(event.offsetX, event.offsetY);
    this.point(null);
  }

  move(event) {
    const here = [event.offsetX, event.offsetY];
    const before = this.pointers.get(event.pointerId);
    if (!before) return this.point(event.pointerType === "mouse" ? here : null);
    this.pointers.set(event.pointerId, here);
    if (Math.hypot(here[0] - this.start[0], here[1] - this.start[1]) > 4) this.isDragged = true;
    if (this.drawing) {
      this.drawing.push(...this.toPlane(...here));
      return this.draw();
    }
    if (this.pointers.size === 1) return this.isDragged && this.pan(here[0] - before[0], here[1] - before[1]);
    const [, other] = /** @type {any} */ ([...this.pointers].find(([id]) => id !== event.pointerId));
    const apart = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
    this.zoom(Math.log2(apart(here) / apart(before)), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
    return this.pan((here[0] - before[0]) / 2, (here[1] - before[1]) / 2);
  }

  up(event, isCancelled = false) {
    if (!this.pointers.delete(event.pointerId)) return;
    const drawn = this.drawing;
    if (this.pointers.size) return;
    this.drawing = null;
    if (drawn && !isCancelled && this.isDragged && drawn.length >= 6) {
      this.arm(false);
      change({ layout: this.whole.method, lasso: thinned(drawn, this.digits(4)) });
    } else if (!this.isDragged && !isCancelled) {
      const cell = this.under(event.offsetX, event.offsetY);
      if (cell) openDetails(cell.id);
    }
    this.draw();
  }

  under(sx, sy) {
    return this.shown?.find((one) => Math.abs(one.sx - sx) <= one.cell / 2 && Math.abs(one.sy - sy) <= one.cell / 2);
  }

  /** Show the picture under the pointer. */
  async point(here) {
    const cell = here && !this.isLasso ? this.under(...here) : null;
    this.canvas.classList.toggle("over", Boolean(cell));
    if (cell?.id === this.pointed) return;
    this.pointed = cell?.id;
    this.hover.hidden = true;
    if (!cell) return;
    const item = await loadItem(cell.id).catch(() => null);
    if (this.pointed !== cell.id || !item) return;
    const [image, name, caption] = this.hover.children;
    image.src = api.thumbnailURL(cell.id, 256);
    name.textContent = fileName(item.path);
    caption.textContent = cell.many > 1 ? `and ${count(cell.many - 1, "more picture")} here` : (item.label ?? "");
    const x = cell.sx + cell.cell / 2 + 8,
      y = Math.min(cell.sy - cell.cell / 2, this.height - 250);
    const left = x + 210 > this.width ? cell.sx - cell.cell / 2 - 208 : x;
    this.hover.style.transform = `translate(${left}px, ${Math.max(8, y)}px)`;
    this.hover.hidden = false;
  }

  key(event) {
    const step = { ArrowLeft: [70, 0], ArrowRight: [-70, 0], ArrowUp: [0, 70], ArrowDown: [0, -70] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step) this.pan(...step);
    else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(-0.5);
    else if (event.key === "0") this.fit();
    else if (event.key === "Enter") this.selectView();
    else if (event.key === "l") this.arm(!this.isLasso);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  selectView() {
    if (!this.center) return;
    const [x0, y0] = this.toPlane(0, 0),
      [x1, y1] = this.toPlane(this.width, this.height);
    change({ layout: this.whole.method, lasso: thinned([x0, y0, x1, y0, x1, y1, x0, y1], this.digits(4)) });
  }

  /** List the pictures inside the lasso. */
  select() {
    const panel = $("#map-list");
    const inside = state.lasso ? within(state.lasso, this.data.x, this.data.y) : [];
    const was = panel.hidden;
    panel.hidden = !state.lasso;
    this.root.classList.toggle("listing", Boolean(state.lasso));
    const ids = inside.map((at) => this.data.ids[at]);
    this.selected = new Set(ids);
    this.selection = ids;
    if (state.lasso) {
      $("#map-list-text").textContent = count(ids.length, "picture");
      $("#map-search").hidden = $("#map-select").hidden = !ids.length;
      this.list.show(new Listed(ids.map((id) => ({ id }))), 0);
      if (was) announce(`${count(ids.length, "picture")} in the lasso`);
    }
    this.draw();
  }

  searchSelection() {
    const step = Math.max(1, this.selection.length / EXAMPLES);
    const some = Array.from(
      { length: Math.min(EXAMPLES, this.selection.length) },
      (_, n) => this.selection[Math.floor(n * step)],
    );
    change(newSearch({ like: some }));
  }

  retry(isChanged = false) {
    if (isChanged) {
      this.data = this.whole = null;
      this.stamps.kept.clear();
    }
    if (!this.root.hidden) this.load();
  }
}

/** A polygon with fewer corners, whose numbers have `digits` digits. */
function thinned(corners, digits) {
  const n = corners.length / 2;
  const step = Math.max(1, n / CORNERS);
  const kept = [];
  for (let at = 0; at < n; at += step) {
    const i = 2 * Math.floor(at);
    kept.push(Number(corners[i].toPrecision(digits)), Number(corners[i + 1].toPrecision(digits)));
  }
  return kept;
}
