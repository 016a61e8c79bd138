/** The panel of the details: opened, closed, and filled by details.js, which loads with the first picture. */

import { $ } from "./dom.js";
import { change, state } from "./state.js";
import { loadStyle } from "./styles.js";
import { words } from "./words.js";

const panel = $("#details");
let lastRequest = 0;
/** @type {AbortController?} */
let controller = null;
/** @type {any} */
let opener = null; // the element that had the focus before

/** @type {() => any} */
let findGrid = () => null;

/** @param {() => any} grid the grid of the current view, if it has one */
export function startDetails(grid) {
  findGrid = grid;
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    closeDetails();
  });
}

/** @param isMoved whether a key in the grid opened it; then the grid keeps the focus. */
export function openDetails(id, isMoved = false) {
  if (!isMoved && !panel.contains(document.activeElement)) opener = document.activeElement;
  change({ item: id }, "replace");
  if (!isMoved) panel.focus();
}

export function closeDetails() {
  const hadFocus = panel.contains(document.activeElement);
  change({ item: null }, "replace");
  if (!hadFocus) return;
  opener?.focus();
  // the row of its tile may show other pictures by now
  if (document.activeElement !== opener || opener === document.body) findGrid()?.focus();
}

export async function drawDetails() {
  const request = ++lastRequest;
  controller?.abort();
  const { signal } = (controller = new AbortController());
  const id = state.item;
  document.body.classList.toggle("has-details", id !== null);
  panel.hidden = id === null;
  if (id === null) return panel.replaceChildren();
  const isCurrent = () => request === lastRequest;
  const parts = await Promise.all([import("./details.js"), loadStyle("details.css")]).catch(() => null);
  if (parts) return parts[0].showItem(panel, id, { signal, isCurrent });
  if (isCurrent()) panel.textContent = words.api.gone;
  return undefined;
}
