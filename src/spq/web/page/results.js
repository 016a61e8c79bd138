/** The pictures view: all pictures, or the answers to a search, in one grid. */

import { api, ApiError } from "./api.js";
import { SEARCH_STATE, searchRequest, isSearching } from "./search_request.js";
import { $, announce, covered, debounce, distanceText, toast } from "./dom.js";
import { Grid } from "./grid.js";
import { browseInOrder, choiceOf, orderOf, orderOptions } from "./orders.js";
import { Pages } from "./pages.js";
import { change, newSearch, remember, state } from "./state.js";
import { loadStyle } from "./styles.js";
import { fillTile, tile, tileLayout } from "./tile.js";
import { words } from "./words.js";

const AGAIN = 5000; // ms before a failed page is loaded again
const PAGE = 100; // pictures in each request
const DEPENDS = [...SEARCH_STATE, "max", "order", "since"];

export class Results {
  /** @type {((item: any) => void) | null} */
  moved = null; // called when a key moves to a picture
  /** @type {any} */
  pages = null;
  isIncomplete = false; // whether a script could not be loaded
  /** @type {any} */
  near = null; // how near answers are, once there was a search
  /** @type {any} */
  bands = null; // bands.js
  /** @type {any} */
  cutOff = null; // cut_off.js
  /** @type {() => Status | null} */
  status = () => null;
  filterError = async () => false;

  /**
   * @param {any} calls status() => the last api.status(); filterError() => whether the filter is invalid; it then shows
   *   the error.
   */
  constructor({ status, filterError }) {
    Object.assign(this, { status, filterError });
    this.root = $("#pictures");
    this.grid = new Grid($("#grid"), {
      label: words.views.pictures,
      layout: (width) => tileLayout(width, isSearching()),
      create: tile,
      fill: (cell, item, position, isCalm) => {
        fillTile(cell, item, isCalm);
        this.near?.fill(cell, item, position);
      },
      inSight: debounce(250, (first) => this.remember(first)),
      inset: covered,
      moved: (position) => this.moved?.(this.grid.list.get(position)),
    });
    const order = $("#order");
    order.replaceChildren(...orderOptions());
    const arrange = () => change({ order: orderOf(order.value), at: 0, since: null });
    order.addEventListener("change", arrange);
    $("#shuffle").addEventListener("click", arrange);
    $("#fold").addEventListener("change", (event) => change({ fold: event.target.checked, max: null, at: 0 }));
  }

  /**
   * @param {Set<string>?} changed names in the state, or null at first.
   * @param {boolean} isBack whether the address bar changed the state.
   */
  update(changed, isBack) {
    if (!changed || !this.pages || DEPENDS.some((name) => changed.has(name)))
      this.load(changed && !isBack ? 0 : state.at);
    else if (isBack && changed.has("at")) this.grid.scrollTo(state.at);
    else this.grid.refill();
  }

  load(at) {
    this.controller?.abort();
    this.controller = new AbortController();
    this.busy(true);
    this.message(null);
    $("#order").value = choiceOf(state.order);
    $("#shuffle").hidden = choiceOf(state.order) !== "random";
    $("#fold").checked = state.fold;
    if (isSearching() && !this.near) return this.prepare(at);
    const question = isSearching() ? searchRequest() : null;
    if (!at) window.scrollTo({ top: 0, behavior: "instant" });
    const note = this.near?.start();
    this.pages = new Pages(question ? answers(question, note) : browsed(), {
      top: Math.min(api.can.top, PAGE),
      expected: at + PAGE,
      changed: (pages) => this.changed(pages),
      failed: (error) => this.failed(error),
    });
    this.root.classList.toggle("answers", Boolean(question));
    if (question) this.bands.loadBands();
    this.grid.root.setAttribute("aria-label", question ? words.results.answers : words.views.pictures);
    this.isAnnounced = false;
    this.grid.show(this.pages, at);
    this.cutOff?.measure();
  }

  /** Load what only answers need, and then the answers. */
  async prepare(at) {
    const { signal } = /** @type {AbortController} */ (this.controller);
    this.pages?.close();
    this.pages = null;
    try {
      const [bands, cutOff, { Nearness }] = await Promise.all([
        import("./bands.js"),
        import("./cut_off.js"),
        import("./nearness.js"),
        loadStyle("nearness.css"),
      ]);
      this.bands = bands;
      this.cutOff = cutOff;
      if (!this.near) {
        this.near = new Nearness(this.grid);
        bands.onBands(() => {
          this.near?.find(true);
          if (this.grid.list) this.redraw();
        });
      }
    } catch {
      this.isIncomplete = true;
      if (!signal.aborted) this.failed(new ApiError(words.api.gone, "gone"));
      return;
    }
    if (!signal.aborted) this.load(at);
  }

  changed(pages) {
    if (pages !== this.pages) return;
    this.busy(false);
    this.grid.update();
    if (isSearching()) this.near?.find();
    const text = this.summary();
    $("#summary").textContent = text;
    if (!this.isAnnounced) announce(text);
    this.isAnnounced = true;
    this.message(pages.total === 0 ? this.nothing() : null);
  }

  summary() {
    const { total, isExact } = this.pages;
    const pictures = isExact
      ? words.results.pictures(total)
      : words.results.moreThan(Math.max(1, total - this.pages.top));
    if (isSearching()) {
      const upTo = state.max === null ? "" : this.cutOff.cutOffText(state.max, this.near.compared);
      return words.results.nearestFirst(pictures, upTo);
    }
    if (state.since !== null) return words.results.changed(total);
    const all = this.status()?.images;
    return state.where && all ? words.results.filtered(total, all) : pictures;
  }

  nothing() {
    if (state.max !== null)
      return {
        title: words.results.noneUpTo(distanceText(state.max)),
        action: [words.results.allDistances, () => change({ max: null })],
      };
    if (state.where)
      return {
        title: words.results.noMatch,
        text: state.where,
        action: [words.filter.clear, () => change({ where: "" })],
      };
    if (state.since !== null)
      return { title: words.results.noNew, action: [words.results.showAll, () => change(newSearch({}))] };
    if (isSearching())
      return {
        title: words.results.noOthers,
        text: words.results.noOthersText,
        action: [words.results.showAll, () => change(newSearch({}))],
      };
    return { title: words.results.empty, text: words.results.emptyText };
  }

  async failed(error) {
    const { pages } = this;
    this.busy(false);
    if (error.kind === "lost") return this.pictureIsMissing();
    if (pages?.total) return this.interrupted(error);
    $("#summary").textContent = ""; // that of the answers before
    const isFilter = Boolean(state.where) && error.kind === "refused" && (await this.filterError());
    if (pages !== this.pages) return; // meanwhile there is another search
    if (isFilter) {
      this.message({
        title: words.results.badFilter,
        text: error.message,
        action: [words.filter.clear, () => change({ where: "" })],
      });
      return;
    }
    const isPicture = isSearching() && error.kind === "refused";
    const back = [words.results.showAll, () => change(newSearch({}))];
    const retry = [words.common.tryAgain, () => this.retry()];
    this.message({
      title: words.results.errors[error.kind] ?? words.results.errors.fault,
      text: error.kind === "gone" ? words.results.keepsTrying : error.message,
      action: isPicture || error.kind === "missing" ? back : retry,
      isError: true,
    });
  }

  /** A page failed: keep the others, and try again later. */
  interrupted(error) {
    const { pages } = this;
    if (!(api.can.live && error.kind === "gone")) toast(error.message); // else the banner shows it
    if (["gone", "busy", "fault"].includes(error.kind))
      setTimeout(() => this.pages === pages && pages.error && pages.retry(), AGAIN);
  }

  pictureIsMissing() {
    this.busy(false);
    this.pages?.close();
    this.pages = null;
    this.grid.clear();
    $("#summary").textContent = "";
    this.message({
      title: words.results.lost,
      text: words.results.lostText,
      action: [words.results.showAll, () => change(newSearch({}))],
    });
  }

  /** Load again, when the server is back or the collection has changed. */
  retry(isChanged = false) {
    if (this.isIncomplete) return location.reload(); // a browser may keep the failure of a script until then
    if (isChanged) this.bands?.loadBands(true);
    this.cutOff?.measure(isChanged);
    if (isChanged || !this.pages) this.load(state.at);
    else if (this.pages.error) {
      this.message(null);
      this.pages.retry();
      this.grid.draw(true);
    }
  }

  /** Show how near the answers are: the limits of the bands have changed, or the appearance. */
  redraw() {
    this.near?.write();
    this.grid.refill();
  }

  remember(first) {
    if (this.root.hidden || !this.pages || this.pages.total === null || this.grid.target) return;
    const at = window.scrollY < 8 ? 0 : first;
    if (at !== state.at) remember({ at });
  }

  busy(is) {
    this.root.classList.toggle("busy", is);
    this.grid.root.setAttribute("aria-busy", is);
  }

  message(message) {
    showMessage($("#pictures-message"), message);
    if (message) announce(message.title);
  }
}

/** Show an empty or an error state: {title, text, action: [label, run]}; or nothing for null. */
export function showMessage(root, message) {
  root.hidden = !message;
  if (!message) return root.replaceChildren();
  const title = document.createElement("h2");
  title.textContent = message.title;
  const text = document.createElement("p");
  text.textContent = message.text ?? "";
  root.replaceChildren(title, text);
  root.classList.toggle("error", Boolean(message.isError));
  if (!message.action) return undefined;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button";
  button.textContent = message.action[0];
  button.addEventListener("click", message.action[1]);
  root.append(button);
  return undefined;
}

/**
 * @param {Promise<Question>} request the pictures of the search may have to be prepared first.
 * @param {(hits: Hit[], offset: number, compared: Compared) => void} note is called with each answer.
 */
function answers(request, note) {
  const max = state.max;
  const ends = max !== null || state.fold;
  return async (offset, top, signal) => {
    const question = await request;
    const isEmpty = !question.files?.length && !question.query.ids?.length; // the pictures are not in this browser
    if (isEmpty) throw Object.assign(new Error(), { kind: "lost" });
    const query = { ...question.query, max_distance: max, offset, top };
    const { hits, total, compared } = await api.search({ ...question, query }, signal);
    note(hits, offset, compared);
    return { items: hits, total, ends };
  };
}

function browsed() {
  const { where, order, since } = state;
  return async (offset, top, signal) => {
    const page = await browseInOrder({ offset, top, where, order, since }, signal, ({ done, total }) => {
      $("#summary").textContent = words.explore.computing(done, total);
    });
    return { ...page, ends: false };
  };
}
