/** The bar at the bottom: how many pictures are selected, and what can be done with them. */

import { api } from "./api.js";
import { $, announce, copyText, el, icon, toast } from "./dom.js";
import { sizeText } from "./format.js";
import { EXAMPLES, MOST, selection, spread } from "./selection.js";
import { change, newSearch, onChange } from "./state.js";
import { markSelected } from "./tile.js";
import { words } from "./words.js";

const STAYS = 10_000; // ms that an empty bar offers to undo
const KEPT = "spq-selection"; // in this tab
const bar = $("#selection");
let hiding = 0;
let name = ""; // of the collection

/** @param {{selectAll: () => void}} parts */
export function startSelectionBar({ selectAll }) {
  bar.setAttribute("aria-label", words.selection.title);
  bar.replaceChildren(
    el("b", { id: "selection-text" }),
    button("like", "like", words.selection.like, () => searchLike(selection.ids)),
    button("paths", "copy", words.selection.paths, copyPaths),
    button("csv", "table", words.selection.csv, saveTable),
    api.can.zip ? button("zip", "download", words.selection.zip, zip) : null,
    button("all", "all", words.selection.all, selectAll),
    button("undo", "undo", words.selection.undo, () => selection.undo()),
    button("none", "close", words.selection.none, clearSelection),
  );
  selection.restore(stored());
  selection.onChange(draw);
  onChange((changed) => ["like", "not", "box"].some((one) => changed.has(one)) && selection.forgetDistances());
  window.addEventListener("pagehide", keep);
  draw();
}

function button(act, symbol, label, onclick) {
  const attributes = { type: "button", class: "button small", "data-do": act, title: label, onclick };
  return el("button", attributes, icon(symbol), el("span", { text: label }));
}

/** Add pictures to the selection: other parts of the page call it. */
export function select(/** @type {Iterable<number>} */ ids) {
  told(selection.add([...ids].map((id) => ({ id }))));
}

/** Search for more like these pictures. Of many, only some are used. */
export function searchLike(/** @type {number[]} */ ids) {
  const some = spread(ids, EXAMPLES);
  change(newSearch({ like: some }));
  if (some.length < ids.length) toast(words.selection.examples(some.length, ids.length));
}

/** Say it if there was no room for all. */
export function told(/** @type {number} */ left) {
  if (left) toast(words.selection.most(MOST, left));
}

/** Select nothing. For some seconds the bar offers to undo it. */
export function clearSelection() {
  selection.clear();
  bar.querySelector("[data-do=undo]").focus({ preventScroll: true });
}

/** The selection is of one collection: at the same address another one may be served. */
export function selectionIsOf(/** @type {string} */ collection) {
  if (name === collection) return;
  const before = name || stored("name");
  name = collection;
  if (before && before !== collection) selection.restore(null);
}

function draw() {
  const { size, canUndo } = selection;
  const isChosen = size > 0;
  clearTimeout(hiding);
  if (!isChosen && !bar.hidden) hiding = setTimeout(hide, STAYS);
  bar.hidden = bar.hidden && !isChosen;
  if (!isChosen && !canUndo) bar.hidden = true;
  document.body.classList.toggle("selecting", isChosen);
  document.body.classList.toggle("has-selection", !bar.hidden);
  const text = words.selection.many(size);
  if ($("#selection-text").textContent !== text && !bar.hidden) announce(text);
  $("#selection-text").textContent = text;
  for (const one of bar.querySelectorAll("[data-do]")) {
    one.hidden = one.dataset.do === "undo" ? !canUndo : !isChosen && one.dataset.do !== "none";
  }
  for (const cell of document.querySelectorAll(".tile")) markSelected(cell);
}

function hide() {
  if (selection.size || bar.contains(document.activeElement)) return;
  bar.hidden = true;
  document.body.classList.remove("has-selection");
}

/** Run an action while its button waits, and say what went wrong. */
async function work(act, run) {
  const one = bar.querySelector(`[data-do=${act}]`);
  one.disabled = true;
  try {
    const files = await import("./chosen_files.js");
    toast(await run(await files.chosenItems(), files));
  } catch (error) {
    toast(error.message);
  } finally {
    one.disabled = false;
  }
}

const copyPaths = () =>
  work("paths", async (items, { pathOf }) => {
    const text = items.map(pathOf).join("\n");
    return (await copyText(text)) ? words.selection.copied(items.length) : words.details.cannotCopy;
  });

const saveTable = () =>
  work("csv", async (items, { chosenTable, save }) => {
    save(await chosenTable(), `${name || "pictures"} ${items.length}.csv`);
    return words.selection.saved(items.length);
  });

const zip = () =>
  work("zip", async (items, { downloadZip }) => {
    if (!items.length) return words.selection.gone;
    downloadZip();
    return words.selection.zipped(
      items.length,
      sizeText(items.reduce((/** @type {number} */ sum, item) => sum + item.size, 0)),
    );
  });

function stored(what = "items") {
  try {
    return sessionStorage.getItem(`${KEPT}-${what}`) ?? "";
  } catch {
    return "";
  }
}

function keep() {
  try {
    sessionStorage.setItem(`${KEPT}-items`, selection.toText());
    sessionStorage.setItem(`${KEPT}-name`, name);
  } catch {
    // kept until the page is closed
  }
}
