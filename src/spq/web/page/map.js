/**
 * The whole collection on a plane: pictures, or points coloured by a column, or their density. A lasso lists the
 * pictures inside. A search highlights its answers, up to the largest distance.
 */

import { api } from "./api.js";
import { $, debounce, fileName, isAbort, number, toast } from "./dom.js";
import { measure } from "./cut_off.js";
import { openDetails } from "./details_panel.js";
import { isSearching, loadItem, SEARCH_STATE, searchRequest } from "./search_request.js";
import { coloured, DENSITY, fillMenu, legend, loadValues, namingColumn, ramp } from "./map_colours.js";
import { LassoList, thinned } from "./map_list.js";
import { paintDensity, paintLasso, paintNames, paintPictures, paintPoints, paintRings } from "./map_painting.js";
import { cells, Stamps, within } from "./mosaic.js";
import { PlaneInput } from "./plane_input.js";
import { showMessage } from "./results.js";
import { selection } from "./selection.js";
import { change, remember, state } from "./state.js";
import { words } from "./words.js";

const CELL = 62; // CSS pixels of a mosaic cell; it doubles up to the next zoom level
const SMALL_CELL = 44; // on a phone
const ANSWERS = 200; // of a search without a largest distance
const NEAR = 9; // pixels between the pointer and a point
const CLOSE = 3; // zoom that shows one picture among its neighbours
const WAIT = 1500; // ms between two questions how far the arrangement is

export class CollectionMap extends PlaneInput {
  /** @type {((item: any) => void) | null} */
  moved = null; // called when a key moves to a picture
  /** @type {any} */
  data = null; // what the filter leaves
  /** @type {any} */
  whole = null; // all points
  asked = ""; // the method that the state asked for then
  places = new Map(); // id -> place in `whole`
  ratio = 1; // pixels of the canvas per CSS pixel
  levelsBase = 0; // scale of the cells in `levels`
  levels = new Map(); // zoom level -> cells
  /** @type {any[]} */
  shown = []; // the cells on the screen
  /** @type {any} */
  column = null; // values of the column that colours the points
  /** @type {any} */
  colours = null; // {codes, palette} of the points in `data`
  /** @type {any} */
  naming = null; // values of the column that names regions
  /** @type {any} */
  answers = null; // ids of the answers to the search
  /** @type {Uint8Array?} */
  isHit = null; // which points in `data` are answers
  searched = ""; // the search of `answers`
  summary = ""; // how many pictures there are

  constructor() {
    super();
    this.root = $("#map");
    this.canvas = $("#plane");
    this.hover = $("#map-hover");
    this.stamps = new Stamps(
      (id) => api.thumbnailURL(id, 128),
      () => this.draw(),
    );
    this.keep = debounce(250, () => {
      if (this.isThere()) remember({ map: this.place(), layout: this.whole.method });
    });
    this.list = new LassoList((item) => this.moved?.(item));
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    selection.onChange(() => this.draw());
    this.listen(this.canvas);
    this.buttons();
  }

  buttons() {
    const on = (id, event, run) => $(id).addEventListener(event, run);
    on("#zoom-in", "click", () => this.zoom(0.7));
    on("#zoom-out", "click", () => this.zoom(-0.7));
    on("#zoom-fit", "click", () => this.fit());
    on("#lasso", "click", () => this.arm(!this.isLasso));
    on("#select-view", "click", () => this.enter());
    on("#map-arrange", "click", () => this.arrange());
    on("#map-colour", "change", (event) => change({ colour: event.target.value }, "replace"));
  }

  get count() {
    return this.data.ids.length;
  }

  /** What the map shows: pictures, points in colours, or density. */
  get mode() {
    if (!state.colour) return "pictures";
    return state.colour === DENSITY ? "density" : "colours";
  }

  /** @returns {"light" | "dark"} */
  get theme() {
    const chosen = document.documentElement.dataset.theme;
    return (chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches) ? "dark" : "light";
  }

  update(changed) {
    const has = (...names) => !changed || names.some((name) => changed.has(name));
    if (!this.data || has("view", "where", "layout")) this.load();
    else {
      if (has("lasso")) this.select();
      else this.list.refill();
      if (has("colour")) this.colour();
      if (has("max", ...SEARCH_STATE)) this.search();
      if (has("map")) this.restore(state.map);
      if (has("find")) this.find();
      this.draw();
    }
  }

  async load() {
    this.controller?.abort(); // of another filter
    const { signal } = (this.controller = new AbortController());
    if (this.data && this.where === state.where && this.asked === state.layout) {
      this.resize();
      this.begun(); // much may have changed while the map was hidden
      this.wait(signal);
      return;
    }
    this.root.classList.add("busy");
    showMessage($("#map-message"), null);
    try {
      const { where, layout } = state;
      if (!this.whole || this.asked !== layout) this.whole = await api.map({ method: layout }, signal);
      this.asked = layout;
      this.data = where ? await api.map({ where, method: this.whole.method }, signal) : this.whole;
      this.where = where;
    } catch (error) {
      if (isAbort(error)) return;
      this.where = null; // the map shows the result of no filter
      const action = /** @type {[string, () => void]} */ ([words.common.tryAgain, () => this.load()]);
      showMessage($("#map-message"), { title: words.map.failed, text: error.message, action, isError: true });
      return;
    } finally {
      this.root.classList.remove("busy");
    }
    this.begin();
    this.wait(signal);
  }

  /** While the places by neighbours are computed, say how far this is; then show them, or offer to. */
  async wait(signal) {
    const line = $("#map-progress");
    const { whole } = this;
    const { method } = whole;
    line.hidden = !whole.arranging || whole.arranging.state === "failed";
    $("#map-arrange").hidden = whole.arranging !== null || method !== "pca";
    while (whole.arranging) {
      line.textContent = words.map.arranging[whole.arranging.state](whole.arranging);
      if (whole.arranging.state !== "computing") return;
      await new Promise((resolve) => setTimeout(resolve, WAIT));
      if (signal.aborted || this.root.hidden) return;
      const found = await api.mapProgress(signal).catch(() => whole);
      if (signal.aborted) return;
      whole.arranging = found.arranging;
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
    this.places = new Map(Array.from(this.whole.ids, (id, at) => [id, at]));
    if (!x.length) showMessage($("#map-message"), { title: words.map.emptyTitle, text: words.map.empty });
    else if (!ids.length)
      showMessage($("#map-message"), { title: words.map.noneTitle, text: words.map.none(this.where ?? "") });
    this.hold(x, y);
    const all = this.where ? words.map.part(total, this.whole.total) : words.map.all(total);
    this.summary = drawn < total ? words.map.sample(number(drawn), all) : all;
    this.resize();
    this.begun();
  }

  begun() {
    this.select();
    this.colour();
    this.name();
    this.search();
    this.find();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height || !this.data) return;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    Object.assign(this, { width, height, ratio, side: Math.min(width, height) < 480 ? SMALL_CELL : CELL });
    this.fill();
    if (!this.center) this.restore(state.map);
    this.draw();
  }

  /** Called after the plane has moved. */
  changed() {
    this.keep();
    this.draw();
  }

  /** Whether the map is visible, with points. It is not while it loads other ones. */
  isThere() {
    return Boolean(this.data && this.whole && this.center && !this.root.hidden);
  }

  draw() {
    if (this.isWaiting || !this.isThere()) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      if (this.isThere()) this.paint();
    });
  }

  /** Cells of the current zoom level. */
  mosaic() {
    const level = Math.floor(this.level);
    if (!this.levels.has(level)) {
      if (this.levels.size > 4) this.levels.delete(this.levels.keys().next().value);
      this.levels.set(level, cells(this.data.x, this.data.y, this.side / (this.base * 2 ** level), this.isHit));
      this.levelsBase = this.base;
    }
    return this.levels.get(level);
  }

  paint() {
    if (this.levelsBase !== this.base) this.levels.clear();
    const context = this.canvas.getContext("2d");
    const accent = getComputedStyle(this.canvas).caretColor; // the accent colour in a form that a canvas accepts
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    if (this.mode === DENSITY) paintDensity(this, context, ramp(this.theme));
    else paintPoints(this, context);
    paintPictures(this, context, accent);
    paintNames(this, context);
    paintLasso(this, context, accent);
    paintRings(this, context, [...state.like.filter((name) => typeof name === "number"), state.item], accent, 22);
    paintRings(this, context, selection.ids, accent, 9);
  }

  /** Load the column that colours the points, and show its legend. */
  async colour() {
    if (this.mode === "colours" && !api.can.mapValues) return change({ colour: "" }, "replace"); // a link of a server
    fillMenu($("#map-colour"), this.controller?.signal);
    if (this.mode !== "colours") this.column = null;
    else if (this.column?.name !== state.colour) {
      const name = state.colour;
      const column = await loadValues(name, this.controller?.signal).catch((error) => this.refused(error));
      if (!column || state.colour !== name) return;
      this.column = { ...column, name };
    }
    this.recolour();
  }

  refused(error) {
    if (isAbort(error)) return;
    toast(error.message);
    change({ colour: "" }, "replace");
  }

  recolour() {
    const { column } = this;
    this.colours = column && this.data ? coloured(column, this.data.ids, this.theme) : null;
    $("#map-legend").replaceChildren(...(column ? legend(column, column.name, this.theme) : []));
    this.draw();
  }

  async name() {
    if (this.naming || !api.can.mapValues) return;
    const column = await namingColumn(this.controller?.signal);
    this.naming ??= column;
    this.draw();
  }

  /** Find the answers to the search; all other pictures become faint points. */
  async search() {
    const key = isSearching() ? JSON.stringify(["max", ...SEARCH_STATE].map((name) => state[name])) : "";
    if (key !== this.searched) {
      this.searched = key;
      this.answers = null;
      if (key) {
        const question = await searchRequest();
        const top = state.max === null ? ANSWERS : api.can.top;
        const query = { ...question.query, fold: false, max_distance: state.max, top };
        const found = await api.search({ ...question, query }).catch((error) => toast(error.message));
        if (key !== this.searched) return;
        this.answers = found ? new Set([...found.hits.map((hit) => hit.id), ...(question.query.ids ?? [])]) : null;
        measure();
      }
    }
    const many = this.answers ? [words.map.answers(this.answers.size)] : [];
    $("#map-text").textContent = [this.summary, ...many].join(", ");
    this.isHit = this.answers ? Uint8Array.from(this.data.ids, (id) => Number(this.answers.has(id))) : null;
    this.levels.clear();
    this.draw();
  }

  /** Move to a picture. */
  find() {
    if (state.find === null || !this.width) return;
    const at = this.places.get(state.find);
    if (at === undefined) toast(words.map.notHere);
    else this.restore([this.whole.x[at], this.whole.y[at], Math.max(CLOSE, this.level)]);
    remember({ find: null, map: this.place(), layout: this.whole.method });
    this.draw();
  }

  armed(is) {
    $("#lasso").setAttribute("aria-pressed", is);
    this.canvas.classList.toggle("lasso", is);
  }

  surrounded(corners) {
    change({ layout: this.whole.method, lasso: thinned(corners, this.digits(4)) });
  }

  tapped(sx, sy) {
    const found = this.under(sx, sy);
    if (found) openDetails(found.id);
  }

  /** The cell or the point at a place. */
  under(sx, sy) {
    const cell = this.shown.find(
      (one) => Math.abs(one.sx - sx) <= one.cell / 2 && Math.abs(one.sy - sy) <= one.cell / 2,
    );
    if (cell || this.mode === "pictures") return cell;
    const [x, y] = this.toPlane(sx, sy);
    let best = (NEAR / this.scale) ** 2;
    let at = -1;
    for (let i = 0; i < this.count; i++) {
      const away = (this.data.x[i] - x) ** 2 + (this.data.y[i] - y) ** 2;
      if (away < best) {
        best = away;
        at = i;
      }
    }
    return at < 0 ? undefined : { id: this.data.ids[at], sx, sy, cell: 2 * NEAR, many: 1 };
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
    caption.textContent = cell.many > 1 ? words.map.more(cell.many - 1) : (item.label ?? "");
    const x = cell.sx + cell.cell / 2 + 8,
      y = Math.min(cell.sy - cell.cell / 2, this.height - 250);
    const left = x + 210 > this.width ? cell.sx - cell.cell / 2 - 208 : x;
    this.hover.style.transform = `translate(${left}px, ${Math.max(8, y)}px)`;
    this.hover.hidden = false;
  }

  /** List what is in view. */
  enter() {
    if (!this.center) return;
    const [x0, y0] = this.toPlane(0, 0),
      [x1, y1] = this.toPlane(this.width, this.height);
    this.surrounded([x0, y0, x1, y0, x1, y1, x0, y1]);
  }

  /** List the pictures inside the lasso. */
  select() {
    const inside = state.lasso ? within(state.lasso, this.data.x, this.data.y) : [];
    this.list.show(inside.map((at) => this.data.ids[at]));
    this.draw();
  }

  retry(isChanged = false) {
    if (isChanged) {
      this.data = this.whole = this.naming = this.column = this.answers = null;
      this.searched = "";
      this.stamps.kept.clear();
    }
    if (!this.root.hidden) this.load();
  }
}
