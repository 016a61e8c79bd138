/** A picture in a grid: a link to similar pictures, buttons, and a caption. */

import { api } from "./api.js";
import { altText, el, icon } from "./dom.js";
import { selection } from "./selection.js";
import { address, newSearch, state } from "./state.js";
import { words } from "./words.js";

const AGAIN = [1500, 4000]; // ms before a failed thumbnail is loaded again
const LOOK = "spq-look";

export function tile() {
  const image = el("img", { decoding: "async", draggable: "false", alt: "" });
  image.addEventListener("load", () => image.classList.add("loaded"));
  image.addEventListener("error", () => again(image));
  return el(
    "div",
    { class: "tile", "data-lost": words.tile.lost, "data-band": "" },
    el("a", { class: "picture", tabindex: "-1" }, image),
    el("div", { class: "caption" }, el("span", { class: "distance" }), el("span", { class: "label" })),
    el(
      "div",
      { class: "acts" },
      act("plus", "plus", words.tile.plus),
      act("minus", "minus", words.tile.minus),
      act("show", "expand", words.tile.show),
      act("details", "info", words.tile.details),
    ),
    act("select", "check", words.tile.select, "tick"),
  );
}

function act(name, symbol, label, kind = "act") {
  return el(
    "button",
    { type: "button", class: `${kind} ${name}`, "data-act": name, tabindex: "-1", title: label, "aria-label": label },
    icon(symbol),
  );
}

/** Show whether the picture of a tile is selected. */
export function markSelected(/** @type {any} */ cell) {
  const is = selection.has(Number(cell.dataset.id || -1));
  cell.classList.toggle("selected", is);
  cell.setAttribute("aria-selected", is);
  cell.lastChild.setAttribute("aria-pressed", is);
}

/** @param isCalm whether pictures may be loaded now. */
export function fillTile(cell, item, isCalm) {
  const [link, caption, acts] = cell.children;
  const image = link.firstChild;
  cell.classList.toggle("waits", !item);
  const id = item ? String(item.id) : "";
  if (cell.dataset.id !== id) {
    cell.dataset.id = id;
    image.classList.remove("loaded");
    image.removeAttribute("src");
    delete image.dataset.tries;
    cell.classList.remove("lost");
    image.alt = item ? altText(item) : "";
    link.removeAttribute("href");
  }
  if (!item) {
    caption.lastChild.textContent = "";
    return;
  }
  link.href = address(newSearch({ like: [item.id] }));
  if (isCalm && !image.hasAttribute("src")) image.src = api.thumbnailURL(item.id, sizeOf(cell));
  const same = item.folded_total ? words.tile.same(item.folded_total) : "";
  caption.lastChild.textContent = [same, item.note ?? item.label].filter(Boolean).join(" · ");
  const mark = state.plus.includes(item.id) ? "plus" : state.minus.includes(item.id) ? "minus" : "";
  cell.dataset.mark = mark;
  acts.children[0].setAttribute("aria-pressed", mark === "plus");
  acts.children[1].setAttribute("aria-pressed", mark === "minus");
  cell.classList.toggle("open", state.item === item.id);
  markSelected(cell);
}

function sizeOf(cell) {
  return cell.clientWidth * Math.min(2, window.devicePixelRatio) > 280 ? 512 : 256;
}

/** Load a thumbnail again: a busy server refuses some. */
function again(image) {
  const tries = Number(image.dataset.tries ?? 0);
  const source = image.getAttribute("src");
  if (!source) return;
  if (tries >= AGAIN.length) {
    image.closest(".tile")?.classList.add("lost");
    return;
  }
  image.dataset.tries = tries + 1;
  setTimeout(
    () => {
      if (image.getAttribute("src") === source && image.isConnected) image.src = source;
    },
    AGAIN[tries] * (0.7 + 0.6 * Math.random()),
  );
}

/** The appearance, kept in this browser. similar: whether copies include pictures that only look alike. */
export const look = {
  size: 190,
  fit: "cover",
  theme: "",
  language: "",
  numbers: false,
  similar: false,
  ...stored(),
};

function stored() {
  try {
    return JSON.parse(localStorage.getItem(LOOK) || "{}");
  } catch {
    return {};
  }
}

export function setLook(changes) {
  Object.assign(look, changes);
  const root = document.documentElement;
  root.dataset.fit = look.fit;
  if (look.theme) root.dataset.theme = look.theme;
  else delete root.dataset.theme;
  try {
    localStorage.setItem(LOOK, JSON.stringify(look));
  } catch {
    // not kept
  }
}

/** Square tiles of about the chosen size; at least three in a row on a phone. */
export function tileLayout(width, caption) {
  const isNarrow = width < 560;
  const gap = isNarrow ? 4 : 10;
  const size = isNarrow ? Math.min(look.size * 0.62, (width - 2 * gap) / 3) : look.size;
  const columns = Math.max(2, Math.floor((width + gap) / (size + gap)));
  const side = (width - gap * (columns - 1)) / columns;
  return { columns, rowHeight: side + gap + (caption ? 22 : 0), gap };
}
