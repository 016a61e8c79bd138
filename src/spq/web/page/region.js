/** A region of the search picture, drawn with mouse, finger or keys. */

import { api } from "./api.js";
import { loadItem } from "./search_request.js";
import { $, toast, untilUp } from "./dom.js";
import { change, newSearch, state } from "./state.js";
import { loadStyle } from "./styles.js";
import { find, isUpload } from "./uploads.js";
import { words } from "./words.js";

const LEAST = 4; // pixels of the picture
const dialog = $("#region");
const image = $("#region-image");
const box = $("#region-box");
let region = { x: 0, y: 0, w: 1, h: 1 }; // {x, y, w, h} as fractions of the picture
/** @type {number[]?} */
let full = null; // [width, height] of an item, which may be shown smaller; null for an upload

const size = () => full ?? [image.naturalWidth, image.naturalHeight];

export async function chooseRegion() {
  const name = state.like[0];
  if (state.like.length !== 1 || !api.can.box) return;
  const upload = isUpload(name) ? await find(name) : null;
  if (isUpload(name) && !upload) return;
  const item = upload ? null : await loadItem(name).catch(() => null);
  full = item?.width && item.height ? [item.width, item.height] : null;
  await loadStyle("region.css");
  dialog.classList.add("waits");
  image.src = upload ? upload.url : api.imageURL(name);
  dialog.showModal();
}

function set({ x, y, w, h }) {
  const clamp = (value, least, most) => Math.min(most, Math.max(least, value));
  w = clamp(w, Math.min(1, LEAST / size()[0]), 1);
  h = clamp(h, Math.min(1, LEAST / size()[1]), 1);
  region = { x: clamp(x, 0, 1 - w), y: clamp(y, 0, 1 - h), w, h };
  for (const [side, value] of Object.entries({ left: region.x, top: region.y, width: w, height: h })) {
    box.style[side] = `${100 * value}%`;
  }
  $("#region-text").textContent = words.region.text(pixels());
  box.setAttribute("aria-label", words.region.label(pixels()));
}

function pixels() {
  const [width, height] = size();
  const left = Math.round(region.x * width),
    top = Math.round(region.y * height);
  return [
    left,
    top,
    Math.max(1, Math.min(width - left, Math.round(region.w * width))),
    Math.max(1, Math.min(height - top, Math.round(region.h * height))),
  ];
}

/** A drag moves the box, on a corner resizes it, and outside draws a new one. */
function begin(event) {
  if (event.button > 0 || !event.isPrimary || dialog.classList.contains("waits")) return;
  event.preventDefault();
  const stage = event.currentTarget;
  stage.setPointerCapture(event.pointerId);
  const frame = image.getBoundingClientRect();
  const at = (moved) => [(moved.clientX - frame.left) / frame.width, (moved.clientY - frame.top) / frame.height];
  const start = at(event),
    before = { ...region };
  const corner = event.target.dataset.corner;
  const how = corner ? stretch(corner) : event.target === box ? shift : drawn;
  const move = (moved) => {
    const next = how(before, start, at(moved));
    if (next) set(next);
  };
  untilUp(stage, move, () => box.focus({ preventScroll: true }));
}

const shift = (before, [x0, y0], [x, y]) => ({ ...before, x: before.x + x - x0, y: before.y + y - y0 });

function drawn(_, start, end) {
  const [x0, y0, x1, y1] = [...start, ...end].map((value) => Math.min(1, Math.max(0, value)));
  const next = { x: Math.min(x0, x1), y: Math.min(y0, y1), w: Math.abs(x1 - x0), h: Math.abs(y1 - y0) };
  return next.w * size()[0] < LEAST && next.h * size()[1] < LEAST ? null : next; // only a click
}

function stretch(corner) {
  return ({ x, y, w, h }, _, at) => {
    const fixed = [corner.includes("w") ? x + w : x, corner.includes("n") ? y + h : y];
    return drawn(null, fixed, at);
  };
}

function keys(event) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [];
  if (event.key === "Enter") {
    event.preventDefault();
    finish(pixels());
  } else if (dx !== undefined) {
    event.preventDefault();
    const step = event.ctrlKey ? 0.005 : 0.02;
    const { x, y, w, h } = region;
    set(event.shiftKey ? { x, y, w: w + dx * step, h: h + dy * step } : { x: x + dx * step, y: y + dy * step, w, h });
  }
}

function finish(selected) {
  dialog.close();
  const isWhole = selected && selected[2] === size()[0] && selected[3] === size()[1];
  change(newSearch({ like: state.like, not: state.not, box: isWhole ? null : selected }));
}

const stage = $("#region-stage");
stage.addEventListener("pointerdown", begin);
box.addEventListener("keydown", keys);
$("#region-whole").addEventListener("click", () => finish(null));
$("#region-use").addEventListener("click", () => finish(pixels()));
$("#region-cancel").addEventListener("click", () => dialog.close());
image.addEventListener("load", () => {
  const [width, height] = size();
  const [x, y, w, h] = state.box ?? [width / 4, height / 4, width / 2, height / 2];
  set({ x: x / width, y: y / height, w: w / width, h: h / height });
  dialog.classList.remove("waits");
  box.focus({ preventScroll: true });
});
image.addEventListener("error", () => {
  if (!dialog.open) return;
  dialog.close();
  toast(words.region.cannotShow);
});
