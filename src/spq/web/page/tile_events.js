/** Clicks on pictures, in all views. */

import { openDetails } from "./details_panel.js";
import { closest } from "./dom.js";
import { mark } from "./search_bar.js";
import { clickSelects } from "./select_gestures.js";
import { change, newSearch } from "./state.js";

/** @param {() => any} grid the grid of the current view, if it has one */
export function startTiles(grid) {
  document.addEventListener("click", (event) => {
    const plain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
    const details = closest(event, "[data-details]");
    if (details && plain) {
      event.preventDefault();
      openDetails(Number(details.dataset.details));
    }
    const show = closest(event, "[data-show]");
    if (show && plain) {
      event.preventDefault();
      change({ show: Number(show.dataset.show) });
    }
    const cell = closest(event, ".tile");
    const id = Number(cell?.dataset.id || NaN);
    if (cell && !Number.isNaN(id)) onTile(event, cell, id, grid());
  });
}

function onTile(event, cell, id, grid) {
  const act = closest(event, "[data-act]")?.dataset.act;
  if (clickSelects(event, cell, grid)) return;
  if (act === "details") openDetails(id);
  else if (act === "show") change({ show: id });
  else if (act) mark(id, act);
  else if (closest(event, ".picture") && event.button === 0) {
    event.preventDefault();
    // the second click of a double click would search for whatever is there by now
    if (event.detail < 2) change(newSearch({ like: [id] }));
  }
}
