/** The list of the pictures inside the lasso of the map. */

import { $, announce } from "./dom.js";
import { Grid } from "./grid.js";
import { Listed } from "./pages.js";
import { searchLike, select } from "./selection_bar.js";
import { change, state } from "./state.js";
import { fillTile, tile } from "./tile.js";
import { words } from "./words.js";

const CORNERS = 48; // of a lasso in the address

export class LassoList {
  /** @type {number[]} */
  ids = [];
  selected = new Set();

  /** @param {(item: any) => void} moved called when a key moves to a picture */
  constructor(moved) {
    this.grid = new Grid($("#map-grid"), {
      label: words.map.inLasso,
      scroller: $("#map-scroll"),
      layout: (width) => {
        const columns = Math.max(2, Math.round(width / 118));
        return { columns, gap: 6, rowHeight: (width - 6 * (columns - 1)) / columns + 6 };
      },
      create: tile,
      fill: (cell, item, _position, isCalm) => fillTile(cell, item, isCalm),
      moved: (position) => moved(this.grid.list.get(position)),
    });
    $("#map-close").addEventListener("click", () => change({ lasso: null }));
    $("#map-search").addEventListener("click", () => searchLike(this.ids));
    $("#map-select").textContent = words.selection.these;
    $("#map-select").addEventListener("click", () => select(this.ids));
  }

  /** Show the pictures inside; none without a lasso. */
  show(/** @type {number[]} */ ids) {
    const panel = $("#map-list");
    const was = panel.hidden;
    panel.hidden = !state.lasso;
    $("#map").classList.toggle("listing", Boolean(state.lasso));
    this.ids = ids;
    this.selected = new Set(ids);
    this.grid.show(new Listed(ids.map((id) => ({ id }))), 0); // of none, so that no key selects them
    if (!state.lasso) return;
    $("#map-list-text").textContent = words.map.all(ids.length);
    $("#map-search").hidden = $("#map-select").hidden = !ids.length;
    if (was) announce(words.map.found(ids.length));
  }

  refill() {
    if (this.grid.list) this.grid.refill();
  }
}

/**
 * A polygon with fewer corners, whose numbers have `digits` digits.
 * @param {number[]} corners x, y, x, y, ...
 */
export function thinned(corners, digits) {
  const n = corners.length / 2;
  const step = Math.max(1, n / CORNERS);
  const kept = [];
  for (let at = 0; at < n; at += step) {
    const i = 2 * Math.floor(at);
    kept.push(Number(corners[i].toPrecision(digits)), Number(corners[i + 1].toPrecision(digits)));
  }
  return kept;
}
