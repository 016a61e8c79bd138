/** The pictures: all of them, or the answers to a search, in one endless grid. */

import { api } from "./api.js";
import { ASKED, asked, isAsking } from "./search_request.js";
import { $, announce, count, covered, debounce, distanceText, isAbort, number, toast } from "./dom.js";
import { Grid } from "./grid.js";
import { Pages } from "./pages.js";
import { measure } from "./search_bar.js";
import { change, fresh, note, state } from "./state.js";
import { fillTile, tile, tileLayout } from "./tile.js";

const AGAIN = 5000; // ms until a page of the list that could not be had is asked for once more
const LARGE = 1e6; // bytes of pictures that are sent with each page: then fewer, longer pages
const ORDERS = { id: "As indexed", path: "By name", time: "Newest files first", new: "Last added first" };
const DEPENDS = [...ASKED, "max", "order", "since"];

export class Results {
  /** @param status () => the last api.status(); filterError(error) => whether the filter is to blame, and it was told so. */
  constructor({ status, filterError }) {
    Object.assign(this, { status, filterError });
    this.root = $("#pictures");
    this.grid = new Grid($("#grid"), {
      label: "Pictures",
      layout: (width) => tileLayout(width, isAsking()),
      create: tile,
      fill: (cell, item, position, isCalm) => fillTile(cell, item, isCalm),
      inSight: debounce(250, (first) => this.remember(first)),
      inset: covered,
      moved: (position) => this.moved?.(this.grid.list.get(position)),
    });
    const order = $("#order");
    order.replaceChildren(...api.can.orders.map((name) => new Option(ORDERS[name], name)));
    order.addEventListener("change", () => change({ order: order.value === api.can.orders[0] ? "" : order.value, at: 0, since: null }));
    $("#fold").addEventListener("change", (event) => change({ fold: event.target.checked, max: null, at: 0 }));
  }

  /** @param changed names of the state, or null at first. isBack: one came here by the address bar. */
  update(changed, isBack) {
    if (!changed || !this.pages || DEPENDS.some((name) => changed.has(name))) this.load(changed && !isBack ? 0 : state.at);
    else if (isBack && changed.has("at")) this.grid.scrollTo(state.at);
    else this.grid.refill();
  }

  async load(at) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    this.controller?.abort();
    this.controller = new AbortController();
    this.busy(true);
    this.message(null);
    $("#order").value = state.order || api.can.orders[0];
    $("#fold").checked = state.fold;
    const question = isAsking() ? await asked() : null;
    if (turn !== this.turn) return;
    if (question && !question.files.length && !question.query.ids.length) return this.gone();
    if (!at) window.scrollTo({ top: 0, behavior: "instant" });
    const size = question ? [...question.files, ...question.negativeFiles].reduce((sum, file) => sum + file.size, 0) : 0;
    this.pages = new Pages(question ? answers(question) : browsed(), {
      top: Math.min(api.can.top, size > LARGE ? 500 : 100),
      expected: at + 100,
      changed: (pages) => this.changed(pages),
      failed: (error) => this.failed(error),
    });
    this.root.classList.toggle("answers", Boolean(question));
    this.grid.root.setAttribute("aria-label", question ? "Pictures, the most similar first" : "Pictures");
    this.isTold = false;
    this.grid.show(this.pages, at);
    if (question && this.measured !== this.key()) {
      this.measured = this.key();
      measure(this.controller.signal).catch((error) => (isAbort(error) ? (this.measured = null) : null));
    }
  }

  key() {
    return JSON.stringify(ASKED.map((name) => state[name]));
  }

  changed(pages) {
    if (pages !== this.pages) return;
    this.busy(false);
    this.grid.update();
    const text = this.summary();
    $("#summary").textContent = text;
    if (!this.isTold) announce(text);
    this.isTold = true;
    this.message(pages.total === 0 ? this.nothing() : null);
  }

  summary() {
    const { total, isExact } = this.pages;
    const many = isExact ? count(total, "picture") : `more than ${number(Math.max(1, total - this.pages.top))} pictures`;
    const within = state.max === null ? "" : ` within ${distanceText(state.max)}`;
    if (isAsking()) return `${many}${within}, nearest first`;
    if (state.since !== null) return count(total, "new or changed picture");
    const all = this.status()?.images;
    return state.where && all ? `${number(total)} of ${count(all, "picture")}` : many;
  }

  nothing() {
    if (state.max !== null) return { title: `Nothing is nearer than ${distanceText(state.max)}`, action: ["Show all distances", () => change({ max: null })] };
    if (state.where) return { title: "No picture matches the filter", text: state.where, action: ["Clear the filter", () => change({ where: "" })] };
    if (state.since !== null) return { title: "Nothing new any more", action: ["Show all pictures", () => change(fresh({}))] };
    if (isAsking()) return { title: "There is nothing else to find", text: "The collection holds no other picture.", action: ["Show all pictures", () => change(fresh({}))] };
    return { title: "No pictures yet", text: "spq index adds them; what it finds shows up here." };
  }

  async failed(error) {
    this.busy(false);
    if (this.pages?.total) return this.interrupted(error);
    if (state.where && error.kind === "refused" && (await this.filterError(error))) {
      this.message({ title: "The filter is not understood", text: error.message, action: ["Clear the filter", () => change({ where: "" })] });
      return;
    }
    const isPicture = isAsking() && error.kind === "refused";
    const back = ["Show all pictures", () => change(fresh({}))];
    const retry = ["Try again", () => this.retry()];
    const titles = { refused: "This cannot be searched with", missing: "Not in this collection", busy: "The server has too much to do", gone: "The server does not answer", token: "This page needs its token" };
    const text = error.kind === "gone" ? "It is asked again by itself; nothing is lost." : error.message;
    this.message({ title: titles[error.kind] ?? "Something went wrong", text, action: isPicture || error.kind === "missing" ? back : retry, isError: true });
  }

  /** What is there stays, and what lacks is asked for again. */
  interrupted(error) {
    const { pages } = this;
    if (!(api.can.live && error.kind === "gone")) toast(error.message); // of a server that is gone the banner tells
    if (["gone", "busy", "fault"].includes(error.kind)) setTimeout(() => this.pages === pages && pages.error && pages.retry(), AGAIN);
  }

  gone() {
    this.busy(false);
    this.pages?.close();
    this.pages = null;
    this.grid.clear();
    $("#summary").textContent = "";
    this.message({
      title: "That picture is not in this browser",
      text: "Pictures that were dropped stay in the browser they were dropped into. Drop it again to search with it.",
      action: ["Show all pictures", () => change(fresh({}))],
    });
  }

  /** Once more, after the server was gone, or when the collection has changed. */
  retry(isChanged = false) {
    if (isChanged || !this.pages) this.load(state.at);
    else if (this.pages.error) {
      this.message(null);
      this.pages.retry();
      this.grid.draw(true);
    }
  }

  remember(first) {
    if (this.root.hidden || !this.pages || this.pages.total === null || this.grid.target) return;
    const at = window.scrollY < 8 ? 0 : first;
    if (at !== state.at) note({ at });
  }

  busy(is) {
    this.root.classList.toggle("busy", is);
    this.grid.root.setAttribute("aria-busy", is);
  }

  message(told) {
    showMessage($("#pictures-message"), told);
    if (told) announce(told.title);
  }
}

/** An empty or an error state: {title, text, action: [label, run]}. */
export function showMessage(root, told) {
  root.hidden = !told;
  if (!told) return root.replaceChildren();
  const title = document.createElement("h2");
  title.textContent = told.title;
  const text = document.createElement("p");
  text.textContent = told.text ?? "";
  root.replaceChildren(title, text);
  root.classList.toggle("error", Boolean(told.isError));
  if (!told.action) return undefined;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button";
  button.textContent = told.action[0];
  button.addEventListener("click", told.action[1]);
  root.append(button);
  return undefined;
}

function answers(question) {
  const max = state.max;
  const ends = max !== null || question.query.fold;
  return async (offset, top, signal) => {
    const query = { ...question.query, max_distance: max, offset, top };
    const { hits, total } = await api.search({ ...question, query }, signal);
    return { items: hits, total, ends };
  };
}

function browsed() {
  const { where, order, since } = state;
  return async (offset, top, signal) => {
    const page = await api.browse({ offset, top, where, order, since }, signal);
    return { ...page, ends: false };
  };
}
