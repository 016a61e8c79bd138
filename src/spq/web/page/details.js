/** The details panel: one picture, its facts, and why it matched. */

import { api } from "./api.js";
import { searchRequest, isSearching, loadItem } from "./search_request.js";
import {
  $,
  altText,
  bytesText,
  copyText,
  count,
  dateText,
  distanceText,
  el,
  fileName,
  icon,
  iconButton,
  isAbort,
  number,
  redraw,
  toast,
} from "./dom.js";
import { mark } from "./search_bar.js";
import { address, change, newSearch, state } from "./state.js";

const panel = $("#details");
let lastRequest = 0;
/** @type {AbortController?} */
let controller = null;
/** @type {any} */
let opener = null; // the element that had the focus before

export function startDetails() {
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    closeDetails();
  });
}

/** @param isMoved whether a key in the grid opened it; then the grid keeps the focus. */
export function openDetails(id, isMoved = false) {
  if (!isMoved) opener = document.activeElement;
  change({ item: id }, "replace");
  if (!isMoved) panel.focus();
}

export function closeDetails() {
  const hadFocus = panel.contains(document.activeElement);
  change({ item: null }, "replace");
  if (hadFocus && opener?.isConnected) opener.focus();
}

export async function drawDetails() {
  const request = ++lastRequest;
  controller?.abort();
  const { signal } = (controller = new AbortController());
  document.body.classList.toggle("has-details", state.item !== null);
  panel.hidden = state.item === null;
  if (panel.hidden) return panel.replaceChildren();
  const id = state.item;
  let item;
  try {
    item = await loadItem(id);
  } catch (error) {
    if (request === lastRequest)
      panel.replaceChildren(head("Not found"), el("p", { class: "muted", text: error.message }));
    return undefined;
  }
  if (request !== lastRequest) return undefined;
  const why = el("section", { class: "why" });
  redraw(panel, head(fileName(item.path)), picture(item), actions(item), why, facts(item));
  return explain(item, why, signal).catch((error) => {
    if (!isAbort(error) && request === lastRequest)
      why.replaceChildren(el("p", { class: "muted", text: error.message }));
  });
}

function head(title) {
  return el("header", {}, el("h2", { text: title, title }), iconButton("close", "Close details", closeDetails));
}

function picture(item) {
  const image = el("img", {
    src: api.thumbnailURL(item.id, 1024),
    alt: altText(item),
    width: item.width || null,
    height: item.height || null,
  });
  image.addEventListener(
    "error",
    () =>
      image.replaceWith(
        el("p", {
          class: "lost-note",
          text: "The picture cannot be shown: its file has moved, or the server is busy.",
        }),
      ),
    { once: true },
  );
  return el("div", { class: "large" }, image);
}

function actions(item) {
  const toggle = (as, symbol, label) =>
    el(
      "button",
      {
        type: "button",
        class: `button mark ${as}`,
        "aria-pressed": String(state[as].includes(item.id)),
        "aria-label": label,
        title: label,
        onclick: () => mark(item.id, as),
      },
      icon(symbol),
    );
  return el(
    "div",
    { class: "row-of-buttons" },
    el("a", { class: "button primary", href: address(newSearch({ like: [item.id] })) }, icon("like"), "More like this"),
    toggle("plus", "plus", "Like this"),
    toggle("minus", "minus", "Not like this"),
  );
}

function facts(item) {
  const rows = [
    ["File", item.path],
    ["Label", item.label],
    ["Picture", item.width ? `${number(item.width)} × ${number(item.height)} pixels` : null],
    ["Size", item.size ? bytesText(item.size) : null],
    ["Changed", item.time ? dateText(item.time) : null],
    ...Object.entries(item.metadata ?? {}).map(([name, value]) => [name, value === null ? null : String(value)]),
  ];
  const list = el(
    "dl",
    {},
    rows.filter(([, value]) => value).map(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]),
  );
  return el(
    "section",
    { class: "facts" },
    list,
    el(
      "div",
      { class: "row-of-buttons" },
      el("button", { type: "button", class: "button", onclick: () => copyPath(item.path) }, icon("copy"), "Copy path"),
      api.can.original
        ? el(
            "a",
            { class: "button", href: api.imageURL(item.id), target: "_blank", rel: "noopener" },
            icon("open"),
            "Open original",
          )
        : null,
    ),
  );
}

async function copyPath(path) {
  toast((await copyText(path)) ? "Path copied" : `The browser does not allow copying: ${path}`);
}

/** Draw a bar for each codebook, or without a search only the codewords. */
async function explain(item, root, signal) {
  if (!item.code?.length || !api.can.explain) return;
  if (!isSearching()) {
    root.replaceChildren(
      el("h3", { text: "What the model sees" }),
      el("p", {
        class: "muted",
        text: "Its codewords, one per codebook. Click one to see the pictures that share it.",
      }),
      el(
        "div",
        { class: "words" },
        item.code.map((k, m) =>
          el(
            "a",
            { class: "word", href: wordAddress(m, k), "aria-label": `codebook ${m + 1}, codeword ${k}` },
            `${m + 1}·${k}`,
          ),
        ),
      ),
    );
    return;
  }
  if (state.like.includes(item.id)) return; // a picture of the search itself
  const question = await searchRequest();
  delete question.query.fold;
  const { total, parts } = await api.explain({ ...question, id: item.id }, signal);
  const most = Math.max(...parts.map((part) => Math.abs(part.distance)), 1e-9);
  const agreeing = parts.filter((part) => part.codeword === part.nearest).length;
  const isSigned = parts.some((part) => part.distance < 0);
  const reading = isSigned ? "Bars below zero reduce the distance." : "Shorter bars mean more similar.";
  root.replaceChildren(
    el("h3", { text: "Why it matched" }),
    el("p", {
      class: "muted",
      text:
        `Distance ${distanceText(total)}. In ${agreeing} of ${count(parts.length, "codebook")} ` +
        `its codeword is the nearest one. ${reading}`,
    }),
    bars(parts, most),
  );
}

/** The bars, in two columns if there are many. */
function bars(parts, most) {
  const list = el(
    "ol",
    { class: "bars" },
    parts.map((part) => bar(part, most)),
  );
  const columns = parts.length > 8 ? 2 : 1;
  list.style.gridTemplate = `repeat(${Math.ceil(parts.length / columns)}, auto) / repeat(${columns}, minmax(0, 1fr))`;
  return list;
}

function bar(part, most) {
  const same = part.codeword === part.nearest;
  const fill = el("span", { class: `fill${part.distance < 0 ? " below" : ""}` });
  fill.style.width = `${(100 * Math.abs(part.distance)) / most}%`;
  const words = `codebook ${part.m + 1}: ${distanceText(part.distance)}${same ? ", the nearest codeword" : ""}`;
  return el(
    "li",
    {},
    el(
      "a",
      { href: wordAddress(part.m, part.codeword), "aria-label": words, class: same ? "same" : null },
      el("span", { class: "book", text: String(part.m + 1) }),
      el("span", { class: "track" }, fill),
      el("span", { class: "value", text: distanceText(part.distance) }),
      el("span", { class: "sign" }, same ? icon("check") : null),
    ),
  );
}

const wordAddress = (m, k) => address({ view: "codewords", book: m, word: k, item: null, at: 0 });
