/** The bar of the current search: its pictures, marked pictures, the region. */

import { api } from "./api.js";
import { hasOnePicture, isSearching, loadItem } from "./search_request.js";
import { $, el, fileName, icon, iconButton, redraw } from "./dom.js";
import { change, newSearch, state } from "./state.js";
import { find, isUpload } from "./uploads.js";
import { words } from "./words.js";

const strip = $("#query");
let drawn = 0;

export function startSearchBar({ chooseRegion }) {
  strip.addEventListener("click", (event) => {
    const button = event.target.closest("[data-drop]");
    if (button) drop(button.dataset.list, button.dataset.drop);
  });
  $("#region-button").addEventListener("click", chooseRegion);
  $("#again").addEventListener("click", searchAgain);
  $("#new-search").addEventListener("click", () => change(newSearch({})));
}

/**
 * Mark an item as like or not like, or remove the mark.
 * @param {number} id
 * @param {string} as "plus" or "minus"
 */
export function mark(id, as) {
  const other = as === "plus" ? "minus" : "plus";
  const isMarked = state[as].includes(id);
  change(
    {
      [as]: isMarked ? state[as].filter((marked) => marked !== id) : [...state[as], id],
      [other]: state[other].filter((marked) => marked !== id),
    },
    "replace",
  );
}

/** Search with the marked pictures. */
export function searchAgain() {
  const { like, not, plus, minus } = state;
  if (!plus.length && !minus.length) return;
  const wanted = [...like.filter((name) => !minus.includes(Number(name))), ...plus];
  const unwanted = [...not.filter((name) => !plus.includes(Number(name))), ...minus];
  if (!wanted.length) return;
  change(
    newSearch({
      like: [...new Set(wanted)],
      not: [...new Set(unwanted)],
      box: wanted.length === 1 ? state.box : null,
    }),
  );
}

function drop(list, text) {
  const rest = state[list].filter((name) => String(name) !== text);
  if (list === "plus" || list === "minus") change({ [list]: rest }, "replace");
  else if (list === "like" && !rest.length) change(newSearch({ plus: state.plus, minus: state.minus }));
  else change({ [list]: rest, box: list === "like" ? null : state.box, max: null, at: 0, item: null });
}

/** Draw the bar. */
export async function drawSearchBar() {
  const turn = ++drawn;
  const marks = state.plus.length + state.minus.length;
  strip.hidden = !isSearching() && !marks;
  if (strip.hidden) return;
  const chips = await Promise.all([
    ...state.like.map((name) => chip(name, "like")),
    ...state.plus.map((name) => chip(name, "plus")),
    ...state.not.map((name) => chip(name, "not")),
    ...state.minus.map((name) => chip(name, "minus")),
  ]);
  const isThere = !isUpload(state.like[0]) || Boolean(await find(state.like[0]));
  if (turn !== drawn) return;
  redraw($("#query-pictures"), ...chips);
  $("#region-button").hidden = !hasOnePicture() || !api.can.box || !isThere;
  $("#region-button span").textContent = state.box ? words.search.changeRegion : words.search.region;
  const again = $("#again");
  again.hidden = !marks;
  again.disabled = !state.plus.length && !state.like.some((name) => !state.minus.includes(Number(name)));
  again.title = again.disabled ? words.search.markFirst : "";
  $("#cut").hidden = true;
  // without a server it stays hidden; the results say so
  if (isSearching()) import("./cut_off.js").then(({ drawCutOff }) => drawCutOff()).catch(() => {});
}

async function chip(name, list) {
  const isFor = list === "like" || list === "plus";
  const { src, title, width, height } = await shown(name);
  const label = isFor ? words.search.like(title) : words.search.notLike(title);
  return el(
    "li",
    { class: `chip ${isFor ? "for" : "against"}${list === "plus" || list === "minus" ? " waiting" : ""}` },
    el(
      "span",
      { class: "frame" },
      src ? el("img", { src, alt: label, draggable: "false" }) : el("span", { class: "gone", text: words.search.gone }),
      list === "like" && hasOnePicture() && state.box && width ? region(state.box, width, height) : null,
    ),
    el("span", { class: "sign" }, icon(isFor ? "plus" : "minus")),
    iconButton("close", words.search.remove(label), null, {
      class: "icon-button remove",
      "data-drop": String(name),
      "data-list": list,
    }),
  );
}

function region(/** @type {number[]} */ [x, y, w, h], width, height) {
  const mark = el("span", { class: "region" });
  Object.assign(mark.style, {
    left: `${(100 * x) / width}%`,
    top: `${(100 * y) / height}%`,
    width: `${(100 * w) / width}%`,
    height: `${(100 * h) / height}%`,
  });
  return mark;
}

/** A picture of the search: {src, title, width, height}; src is null if it is missing. */
export async function shown(name) {
  if (!isUpload(name)) {
    const item = await loadItem(name).catch(() => null);
    return {
      src: api.thumbnailURL(name, 256),
      title: item ? fileName(item.path) : words.common.picture(name),
      width: item?.width,
      height: item?.height,
    };
  }
  const upload = await find(name);
  if (!upload) return { src: null, title: words.search.missing };
  const size = await sizeOf(upload.url);
  return { src: upload.url, title: upload.title, ...size };
}

/** Size of an upright picture; empty if the browser cannot show it. */
function sizeOf(url) {
  const image = new Image();
  image.src = url;
  return image.decode().then(
    () => ({ width: image.naturalWidth, height: image.naturalHeight }),
    () => ({}),
  );
}
