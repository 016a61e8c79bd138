/** Keyboard shortcuts for the page and for the focused picture. Keys with Ctrl, Alt or Meta belong to the browser. */

import { $ } from "./dom.js";
import { openDetails } from "./details_panel.js";
import { chooseFile } from "./picture_input.js";
import { mark, searchAgain } from "./search_bar.js";
import { selectAll, toggle } from "./select_gestures.js";
import { selection } from "./selection.js";
import { clearSelection } from "./selection_bar.js";
import { change, newSearch, state, VIEWS } from "./state.js";

const TYPING = "input:not([type=range]):not([type=radio]):not([type=checkbox]), textarea, select";

/** @param grid () => the grid of the current view, if it has one. */
export function startKeys({ grid, chooseRegion, closeDetails }) {
  const help = $("#help");
  $("#help-button").addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    if (isAll(event) && grid()) {
      event.preventDefault();
      selectAll(grid().list);
      return;
    }
    if (
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      event.defaultPrevented ||
      document.querySelector("dialog[open], :popover-open")
    )
      return;
    const target = /** @type {any} */ (event.target);
    if (target.matches(TYPING)) return;
    if (onPicture(event, grid(), closeDetails) || everywhere(event, { grid, chooseRegion, closeDetails, help }))
      event.preventDefault();
  });
}

/** Ctrl+A, where it would not select a text. */
const isAll = (/** @type {any} */ event) =>
  (event.ctrlKey || event.metaKey) &&
  event.key === "a" &&
  !event.shiftKey &&
  !event.altKey &&
  !event.target.matches(TYPING) &&
  !document.querySelector("dialog[open]");

function onPicture(event, grid, closeDetails) {
  const position = grid?.positionOf(event.target);
  const item = position === null || position === undefined ? null : grid.list?.get(position);
  if (!item || (event.target.closest("button, a") && (event.key === "Enter" || event.key === " "))) return false;
  if (event.key === "Enter") change(newSearch({ like: [item.id] }));
  else if (event.key === " ") change({ show: item.id });
  else if (event.key === "x") toggle(event.target.closest(".tile"), grid);
  else if (event.key === "i") {
    if (state.item === item.id) closeDetails();
    else openDetails(item.id, true);
  } else if (event.key === "+" || event.key === "=") mark(item.id, "plus");
  else if (event.key === "-") mark(item.id, "minus");
  else return false;
  return true;
}

function everywhere(event, { grid, chooseRegion, closeDetails, help }) {
  const { key } = event;
  if (key === "/") $("#where").focus();
  else if (key === "?") help.showModal();
  else if (key === "o") chooseFile();
  else if (key === "b" && state.like.length === 1) chooseRegion();
  else if (key === "s") searchAgain();
  else if (key === "Escape") return closeOne(closeDetails);
  else if (/^[1-4]$/.test(key)) {
    const link = $(`a[data-view=${VIEWS[Number(key) - 1]}]`);
    if (!link.hidden) link.click();
  } else if (key === "ArrowDown" && event.target === document.body && grid()) grid().focus();
  else return false;
  return true;
}

/** Close the topmost thing. Marks stay: they may be the work of minutes. */
function closeOne(closeDetails) {
  if (state.item !== null) closeDetails();
  else if (selection.size) clearSelection();
  else if (state.lasso) change({ lasso: null });
  else return false;
  return true;
}
