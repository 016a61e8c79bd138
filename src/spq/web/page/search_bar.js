/** The strip that says what is searched for: pictures for and against, marks that wait, the region, the cut-off. */

import { api } from "./api.js";
import { asked, hasOne, isAsking, itemOf } from "./search_request.js";
import { $, debounce, distanceText, el, fileName, icon, iconButton, redraw } from "./dom.js";
import { change, fresh, state } from "./state.js";
import { find, isUpload } from "./uploads.js";

const STEPS = 1000; // of the slider; the last one is "no cut-off"
const FAR = 2000; // rank of the picture whose distance the slider ends at
const strip = $("#query");
const slider = $("#cut-off");
let scale = null; // {near, far}: distances at both ends of the slider
let drawn = 0;

export function startQuery({ chooseRegion }) {
  strip.addEventListener("click", (event) => {
    const button = event.target.closest("[data-drop]");
    if (button) drop(button.dataset.list, button.dataset.drop);
  });
  $("#region-button").addEventListener("click", chooseRegion);
  $("#again").addEventListener("click", searchAgain);
  $("#new-search").addEventListener("click", () => change(fresh({})));
  const cut = debounce(180, () => change({ max: chosen(), at: 0 }, "replace"));
  slider.addEventListener("input", () => {
    tell(chosen());
    cut();
  });
}

/** Mark an item as to be like, or not, or neither again. */
export function mark(id, as) {
  const other = as === "plus" ? "minus" : "plus";
  const isMarked = state[as].includes(id);
  change({
    [as]: isMarked ? state[as].filter((marked) => marked !== id) : [...state[as], id],
    [other]: state[other].filter((marked) => marked !== id),
  }, "replace");
}

/** Ask with the marks. */
export function searchAgain() {
  const { like, not, plus, minus } = state;
  if (!plus.length && !minus.length) return;
  const wanted = [...like.filter((name) => !minus.includes(name)), ...plus];
  const unwanted = [...not.filter((name) => !plus.includes(name)), ...minus];
  if (!wanted.length) return;
  change(fresh({
    like: [...new Set(wanted)],
    not: [...new Set(unwanted)],
    box: wanted.length === 1 ? state.box : null,
  }));
}

function drop(list, text) {
  const rest = state[list].filter((name) => String(name) !== text);
  if (list === "plus" || list === "minus") change({ [list]: rest }, "replace");
  else if (list === "like" && !rest.length) change(fresh({ plus: state.plus, minus: state.minus }));
  else change({ [list]: rest, box: list === "like" ? null : state.box, max: null, at: 0, item: null });
}

/** Draw the strip anew. */
export async function drawQuery() {
  const turn = ++drawn;
  const marks = state.plus.length + state.minus.length;
  strip.hidden = !isAsking() && !marks;
  if (strip.hidden) return;
  const chips = await Promise.all([
    ...state.like.map((name) => chip(name, "like")),
    ...state.plus.map((name) => chip(name, "plus")),
    ...state.not.map((name) => chip(name, "not")),
    ...state.minus.map((name) => chip(name, "minus")),
  ]);
  if (turn !== drawn) return;
  redraw($("#asked"), ...chips);
  $("#region-button").hidden = !hasOne() || !api.can.box || (isUpload(state.like[0]) && !(await find(state.like[0])));
  $("#region-button span").textContent = state.box ? "Change region" : "Region";
  const again = $("#again");
  again.hidden = !marks;
  again.disabled = !state.plus.length && !state.like.some((name) => !state.minus.includes(name));
  again.title = again.disabled ? "Mark a picture with + first" : "";
  $("#new-search").hidden = !isAsking();
  $("#cut").hidden = !isAsking() || !scale;
  tell(state.max);
}

async function chip(name, list) {
  const isFor = list === "like" || list === "plus";
  const { src, title, width, height } = await shown(name);
  const words = `${isFor ? "like" : "not like"} ${title}`;
  return el(
    "li",
    { class: `chip ${isFor ? "for" : "against"}${list === "plus" || list === "minus" ? " waiting" : ""}` },
    el("span", { class: "frame" },
      src ? el("img", { src, alt: words, draggable: "false" }) : el("span", { class: "gone", text: "no longer in this browser" }),
      list === "like" && hasOne() && state.box && width ? region(state.box, width, height) : null),
    el("span", { class: "sign" }, icon(isFor ? "plus" : "minus")),
    iconButton("close", `Remove: ${words}`, null, { class: "icon-button remove", "data-drop": String(name), "data-list": list }),
  );
}

function region([x, y, w, h], width, height) {
  const mark = el("span", { class: "region" });
  Object.assign(mark.style, {
    left: `${(100 * x) / width}%`, top: `${(100 * y) / height}%`,
    width: `${(100 * w) / width}%`, height: `${(100 * h) / height}%`,
  });
  return mark;
}

/** How a picture of the query looks: {src, title, width, height}; src is null where it is gone. */
export async function shown(name) {
  if (!isUpload(name)) {
    const item = await itemOf(name).catch(() => null);
    return { src: api.thumbnailURL(name, 256), title: item ? fileName(item.path) : `picture ${name}`, width: item?.width, height: item?.height };
  }
  const upload = await find(name);
  if (!upload) return { src: null, title: "a picture that is gone" };
  const size = await sizeOf(upload.url);
  return { src: upload.url, title: upload.title, ...size };
}

/** Pixels of a picture, upright; none where the browser cannot show it. */
function sizeOf(url) {
  const image = new Image();
  image.src = url;
  return image.decode().then(() => ({ width: image.naturalWidth, height: image.naturalHeight }), () => ({}));
}

/** Find out between which distances the slider moves. */
export async function measure(signal) {
  scale = null;
  if (!isAsking()) return;
  const question = await asked();
  const probe = (offset) => api.search({ ...question, query: { ...question.query, top: 1, offset } }, signal);
  const nearest = await probe(0);
  if (!nearest.hits.length) return;
  const rank = Math.min(nearest.total, FAR) - 1;
  const farthest = rank > 0 ? await probe(rank).then((answer) => answer.hits[0]) : null;
  const near = nearest.hits[0].distance;
  const far = farthest?.distance ?? near + 1; // with fold there may be fewer
  scale = { near, far: far > near ? far : near + 1 };
  slider.value = state.max === null ? STEPS : Math.round((STEPS * (state.max - near)) / (scale.far - near));
  $("#cut").hidden = false;
  tell(state.max);
}

function chosen() {
  const step = Number(slider.value);
  if (step >= STEPS) return null;
  const value = scale.near + (step / STEPS) * (scale.far - scale.near);
  return step ? Number(value.toPrecision(5)) : Math.ceil(value * 1e4) / 1e4; // the nearest itself stays in
}

function tell(max) {
  const text = max === null ? "any distance" : `up to ${distanceText(max)}`;
  $("#cut-off-text").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  if (!slider.matches(":active") && document.activeElement !== slider && scale) {
    slider.value = max === null ? STEPS : Math.round((STEPS * (max - scale.near)) / (scale.far - scale.near));
  }
}
