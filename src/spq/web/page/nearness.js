/** How near the answers of a search are: the band of each, the line where similarity ends, and answers that tie. */

import { bandOf, lineOf, reading } from "./bands.js";
import { api } from "./api.js";
import { $, distanceText, el } from "./dom.js";
import { look } from "./tile.js";
import { words } from "./words.js";

const MOST = 200; // answers that tie, and are counted, on each side of a picture

export class Nearness {
  /** @type {Compared} */
  compared = "several";
  /** @type {number | null} */
  closest = null; // distance of the first answer
  /** @type {number | null} */
  lineAt = null; // position of the first answer that is far
  close = 0; // answers before the line, as far as they are loaded

  turn = 0; // searches so far

  /** @param {any} grid of the answers. */
  constructor(grid) {
    this.grid = grid;
  }

  /** Begin with a new search, and return what notes its answers. Those of an earlier one are not noted any more. */
  start() {
    const turn = ++this.turn;
    Object.assign(this, { compared: "several", closest: null, lineAt: null, close: 0 });
    this.write();
    return (/** @type {Hit[]} */ hits, /** @type {number} */ offset, /** @type {Compared} */ compared) => {
      if (turn === this.turn) this.note(hits, offset, compared);
    };
  }

  note(hits, offset, compared) {
    this.compared = compared ?? "several";
    if (offset === 0) this.closest = hits[0]?.distance ?? null;
    this.write();
  }

  /** Find the line in the answers that are loaded: more of them are, or (`isAnew`) the limits of the bands changed. */
  find(isAnew = false) {
    const total = this.grid.list?.total ?? 0;
    if (isAnew) Object.assign(this, { lineAt: null, close: 0 });
    while (this.close < total && this.isFar(this.close) === false) this.close++;
    const loaded = this.lineAt === null && this.grid.list ? this.grid.list.loaded() : [];
    const isFirst = (at) => this.isFar(at) && (at === 0 || this.isFar(at - 1) === false);
    this.lineAt ??= loaded.find(isFirst) ?? null;
    this.write();
  }

  /** Show on a tile how near its picture is. @param {Hit | undefined} hit */
  fill(cell, hit, position) {
    const link = cell.children[0];
    const [text, label] = cell.children[1].children;
    const band = hit && hit.distance !== undefined ? bandOf(hit, this.compared) : null;
    cell.dataset.band = band ?? "";
    cell.dataset.distance = hit?.distance ?? "";
    text.textContent = band ? words.bands.names[band] : "";
    link.title = hit && hit.distance !== undefined ? reading(hit, this.compared) : "";
    this.draw(cell, position);
    if (!hit || hit.distance === undefined) return;
    if (look.numbers) text.textContent = `${text.textContent} ${distanceText(hit.distance)}`.trim();
    const tie = this.tie(hit, position);
    if (tie.count < 2) return;
    link.title = `${link.title} ${words.bands.tie(tie.count, tie.isMore)}`;
    if (tie.isFirst) label.textContent = [words.bands.tieMark(tie.count, tie.isMore), label.textContent].join(" · ");
  }

  /** Draw the line on the edges of the tiles beside it. */
  draw(cell, position) {
    const isFirst = this.isFar(position) && position > 0 && this.isFar(position - 1) === false;
    const { columns } = this.grid;
    cell.classList.toggle("below-line", this.isFar(position) === true && this.isFar(position - columns) === false);
    cell.classList.toggle("after-line", isFirst && position % columns > 0);
    const note = cell.querySelector(".line-note");
    if (!isFirst) note?.remove();
    else if (!note) {
      const text = el("span", { class: "line-note", title: words.bands.lineMeaning, text: words.bands.line });
      cell.insertBefore(text, cell.lastChild); // the last one is the tick of the selection
    }
  }

  /** Whether the answer at a position lies beyond the line; undefined if it is not loaded. */
  isFar(position) {
    const line = lineOf(this.compared);
    const hit = this.grid.list?.get(position);
    return hit?.distance === undefined || line === null ? undefined : hit.distance > line;
  }

  /** How many of the loaded answers are as near as this one, and whether it is the first of them. */
  tie(hit, position) {
    const isEqual = (at) => this.grid.list.get(at)?.distance === hit.distance;
    let [before, after] = [0, 0];
    while (before < MOST && isEqual(position - before - 1)) before++;
    while (after < MOST && isEqual(position + after + 1)) after++;
    return { count: before + after + 1, isFirst: before === 0, isMore: after === MOST || before === MOST };
  }

  /** Write above the answers how to read them. */
  write() {
    const text = this.text();
    $("#reading").hidden = !text;
    $("#reading").textContent = text;
  }

  text() {
    if (this.closest === null) return "";
    if (this.compared === "several") return words.bands.several;
    const line = lineOf(this.compared);
    const how = this.compared === "code" ? (api.can.original ? words.bands.byCode : words.bands.byCodeOnSite) : "";
    let near = "";
    if (line !== null && this.closest > line) near = words.bands.nothingClose;
    else if (line !== null && this.lineAt) near = words.bands.closeOnes(this.lineAt);
    else if (line !== null && this.close) {
      const { total, isExact } = this.grid.list;
      near = words.bands[isExact && this.close >= total ? "closeOnes" : "manyClose"](this.close);
    }
    return [near, how].filter(Boolean).join(" ");
  }
}
