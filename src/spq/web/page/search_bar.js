/** The bar of the current search: its pictures, marked pictures, the region, the largest distance. */

import { api } from "./api.js";
import { searchRequest, hasOnePicture, isSearching, loadItem } from "./search_request.js";
import { $, debounce, distanceText, el, fileName, icon, iconButton, redraw } from "./dom.js";
import { change, newSearch, state } from "./state.js";
import { find, isUpload } from "./uploads.js";

const STEPS = 1000; // of the slider; the last one means any distance
const FAR = 2000; // rank of the picture at the end of the slider
const strip = $("#query");
const slider = $("#cut-off");
/** @type {{low: number, high: number}?} */
let scale = null; // {low, high}: distances at both ends of the slider
let drawn = 0;

export function startSearchBar({ chooseRegion }) {
  strip.addEventListener("click", (event) => {
    const button = event.target.closest("[data-drop]");
    if (button) drop(button.dataset.list, button.dataset.drop);
  });
  $("#region-button").addEventListener("click", chooseRegion);
  $("#again").addEventListener("click", searchAgain);
  $("#new-search").addEventListener("click", () => change(newSearch({})));
  const cut = debounce(180, () => change({ max: sliderValue(), at: 0 }, "replace"));
  slider.addEventListener("input", () => {
    showCutOff(sliderValue());
    cut();
  });
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
  if (turn !== drawn) return;
  redraw($("#query-pictures"), ...chips);
  $("#region-button").hidden =
    !hasOnePicture() || !api.can.box || (isUpload(state.like[0]) && !(await find(state.like[0])));
  $("#region-button span").textContent = state.box ? "Change region" : "Region";
  const again = $("#again");
  again.hidden = !marks;
  again.disabled = !state.plus.length && !state.like.some((name) => !state.minus.includes(Number(name)));
  again.title = again.disabled ? "Mark a picture with + first" : "";
  $("#cut").hidden = !isSearching() || !scale;
  showCutOff(state.max);
}

async function chip(name, list) {
  const isFor = list === "like" || list === "plus";
  const { src, title, width, height } = await shown(name);
  const words = `${isFor ? "like" : "not like"} ${title}`;
  return el(
    "li",
    { class: `chip ${isFor ? "for" : "against"}${list === "plus" || list === "minus" ? " waiting" : ""}` },
    el(
      "span",
      { class: "frame" },
      src
        ? el("img", { src, alt: words, draggable: "false" })
        : el("span", { class: "gone", text: "no longer in this browser" }),
      list === "like" && hasOnePicture() && state.box && width ? region(state.box, width, height) : null,
    ),
    el("span", { class: "sign" }, icon(isFor ? "plus" : "minus")),
    iconButton("close", `Remove: ${words}`, null, {
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
      title: item ? fileName(item.path) : `picture ${name}`,
      width: item?.width,
      height: item?.height,
    };
  }
  const upload = await find(name);
  if (!upload) return { src: null, title: "a missing picture" };
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

/** Find the distances at both ends of the slider. */
export async function measure(signal) {
  scale = null;
  if (!isSearching()) return;
  const question = await searchRequest();
  const probe = (offset) => api.search({ ...question, query: { ...question.query, top: 1, offset } }, signal);
  const nearest = await probe(0);
  if (!nearest.hits.length) return;
  const rank = Math.min(nearest.total, FAR) - 1;
  const farthest = rank > 0 ? await probe(rank).then((answer) => answer.hits[0]) : null;
  const low = nearest.hits[0].distance;
  const high = farthest?.distance ?? low + 1; // there may be fewer hits with fold
  scale = { low, high: high > low ? high : low + 1 };
  slider.value = state.max === null ? STEPS : Math.round((STEPS * (state.max - low)) / (scale.high - low));
  $("#cut").hidden = false;
  showCutOff(state.max);
}

function sliderValue() {
  const step = Number(slider.value);
  if (step >= STEPS || !scale) return null;
  const value = scale.low + (step / STEPS) * (scale.high - scale.low);
  // the lowest step is rounded up, so that the nearest hit stays
  return step ? Number(value.toPrecision(5)) : Math.ceil(value * 1e4) / 1e4;
}

function showCutOff(max) {
  const text = max === null ? "any distance" : `up to ${distanceText(max)}`;
  $("#cut-off-text").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  if (!slider.matches(":active") && document.activeElement !== slider && scale) {
    slider.value = max === null ? STEPS : Math.round((STEPS * (max - scale.low)) / (scale.high - scale.low));
  }
}
