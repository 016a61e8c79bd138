/** The details panel: one picture, its facts, and why it matched. */

import { api } from "./api.js";
import { searchRequest, isSearching, loadItem } from "./search_request.js";
import {
  altText,
  bytesText,
  copyText,
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
import { closeDetails } from "./details_panel.js";
import { mark } from "./search_bar.js";
import { address, newSearch, state } from "./state.js";
import { words } from "./words.js";

/**
 * Fill the panel.
 * @param {any} panel
 * @param {number} id
 * @param {{signal: AbortSignal, isCurrent: () => boolean}} request isCurrent: whether no other item was asked for since
 */
export async function showItem(panel, id, { signal, isCurrent }) {
  let item;
  try {
    item = await loadItem(id);
  } catch (error) {
    if (isCurrent())
      panel.replaceChildren(head(words.details.notFound), el("p", { class: "muted", text: error.message }));
    return undefined;
  }
  if (!isCurrent()) return undefined;
  const why = el("section", { class: "why" });
  redraw(panel, head(fileName(item.path)), picture(item), actions(item), fileActions(item), why, facts(item));
  return explain(item, why, signal).catch((error) => {
    if (!isAbort(error) && isCurrent()) why.replaceChildren(el("p", { class: "muted", text: error.message }));
  });
}

function head(title) {
  return el("header", {}, el("h2", { text: title, title }), iconButton("close", words.details.close, closeDetails));
}

function picture(item) {
  const image = el("img", {
    src: api.thumbnailURL(item.id, 1024),
    alt: altText(item),
    width: item.width || null,
    height: item.height || null,
  });
  const note = () => image.closest("a").replaceWith(el("p", { class: "lost-note", text: words.details.cannotShow }));
  image.addEventListener("error", note, { once: true });
  const link = { href: address({ show: item.id }), "data-show": item.id, title: words.details.enlarge };
  return el("div", { class: "large" }, el("a", link, image));
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
  const like = { class: "button primary", href: address(newSearch({ like: [item.id] })) };
  const place = {
    class: "button mark",
    href: address({ view: "map", find: item.id }),
    title: words.map.show,
    "aria-label": words.map.show,
  };
  return el(
    "div",
    { class: "row-of-buttons" },
    el("a", like, icon("like"), words.details.like),
    toggle("plus", "plus", words.details.add),
    toggle("minus", "minus", words.details.avoid),
    api.can.map ? el("a", place, icon("map")) : null,
  );
}

/** What can be done with the file: above the facts, where it needs no scrolling. */
function fileActions(item) {
  const small = (symbol, label, attributes) =>
    el(attributes.href ? "a" : "button", { class: "button small", ...attributes }, icon(symbol), label);
  const onclick = (run) => ({ type: "button", onclick: run });
  return el(
    "div",
    { class: "row-of-buttons files" },
    small(
      "copy",
      words.details.copy,
      onclick(() => copyPath(item.location ?? item.path)),
    ),
    api.can.original
      ? small("download", words.details.download, { href: api.downloadURL(item.id), download: "" })
      : null,
    item.can_show
      ? small(
          "folder",
          words.details.folder,
          onclick(() => showFolder(item.id)),
        )
      : null,
    api.can.original
      ? small("open", words.details.original, { href: api.imageURL(item.id), target: "_blank", rel: "noopener" })
      : null,
  );
}

function facts(item) {
  const shape = item.width ? words.details.pixels(number(item.width), number(item.height)) : null;
  const rows = [
    [words.details.file, item.location ?? item.path],
    [words.details.label, item.label],
    [words.details.shape, shape],
    [words.details.size, item.size ? bytesText(item.size) : null],
    [words.details.changed, item.time ? dateText(item.time) : null],
    ...Object.entries(item.metadata ?? {}).map(([name, value]) => [name, value === null ? null : String(value)]),
  ];
  const known = rows.filter(([, value]) => value);
  const list = known.map(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]);
  return el("section", { class: "facts" }, el("dl", {}, list));
}

async function copyPath(path) {
  toast((await copyText(path)) ? words.details.copied : `${words.details.cannotCopy} ${path}`);
}

export async function showFolder(/** @type {number} */ id) {
  await api.showFolder(id).catch((error) => toast(error.message));
}

/** Draw a bar for each codebook, or without a search only the codewords. */
async function explain(item, root, signal) {
  if (!item.code?.length || !api.can.explain) return;
  if (!isSearching()) {
    root.replaceChildren(
      el("h3", { text: words.details.sees }),
      el("p", {
        class: "muted",
        text: words.details.codewords,
      }),
      el(
        "div",
        { class: "words" },
        item.code.map((k, m) =>
          el(
            "a",
            { class: "word", href: wordAddress(m, k), "aria-label": words.details.codeword(m + 1, k) },
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
  root.replaceChildren(
    el("h3", { text: words.details.why }),
    el("p", {
      class: "muted",
      text: words.details.reading(distanceText(total), agreeing, parts.length, isSigned),
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
  const label = words.details.part(part.m + 1, distanceText(part.distance), same);
  return el(
    "li",
    {},
    el(
      "a",
      { href: wordAddress(part.m, part.codeword), "aria-label": label, class: same ? "same" : null },
      el("span", { class: "book", text: String(part.m + 1) }),
      el("span", { class: "track" }, fill),
      el("span", { class: "value", text: distanceText(part.distance) }),
      el("span", { class: "sign" }, same ? icon("check") : null),
    ),
  );
}

const wordAddress = (m, k) => address({ view: "codewords", book: m, word: k, item: null, at: 0 });
