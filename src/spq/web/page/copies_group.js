/** One group of copies: its pictures side by side, and what is suggested or decided for each of them. */

import { api } from "./api.js";
import { altText, el, fileName, icon } from "./dom.js";
import { bytesText, dateText, number } from "./format.js";
import { address } from "./state.js";
import { words } from "./words.js";

const SHOWN = 40; // pictures of one group
const TAIL = 10; // letters of a name that are always shown: its end is what differs
const REGIONS = 3; // marked places on the picture that others are compared with

/** The ids that stay as things are: decided, or only suggested. */
export function keptIds(group, decision) {
  if (decision.choice === "keep") return new Set(decision.keep);
  return new Set(decision.choice === "apart" ? group.ids : group.suggested);
}

/**
 * Draw a group into a cell.
 * @param {HTMLElement} cell
 * @param {any} group
 * @param {any} decision
 * @param {((act: string, id: number | null) => void) | false} act called for the buttons of the group; none without it
 */
export function drawGroup(cell, group, decision, act) {
  const texts = words.copies;
  const kept = keptIds(group, decision);
  const isSuggesting = decision.choice === "open" && kept.size < group.ids.length;
  const left = group.items.length - SHOWN;
  const best = bestOf(group.items);
  const acts = { group, decision, kept, best, isSuggesting, act };
  cell.dataset.choice = decision.choice;
  cell.dataset.key = group.key;
  cell.setAttribute("aria-label", `${texts.kinds[group.kind]}, ${statusText(group, decision, isSuggesting)}`);
  cell.replaceChildren(
    el(
      "header",
      {},
      el("h3", { text: texts.kinds[group.kind] }),
      el("p", { class: "reason", text: whyText(group), title: whyText(group) }),
      el(
        "span",
        { class: `status ${decision.outdated ? "outdated" : decision.choice}` },
        decision.choice === "open" ? null : icon("check"),
        statusText(group, decision, isSuggesting),
      ),
    ),
    el(
      "div",
      { class: "members" },
      group.items.slice(0, SHOWN).map((item, n) => member(item, n, acts)),
      left > 0 ? el("p", { class: "rest", text: texts.more(left) }) : null,
    ),
    act ? el("footer", {}, buttons(acts)) : null,
  );
}

function whyText(group) {
  const texts = words.copies;
  return group.confirmed ? texts.why(inWords(group.why)) : texts.unconfirmed[group.kind];
}

/** What the server says of a picture, in the language of the page where that is known. */
const inWords = (/** @type {string} */ text) =>
  words.copies.reasons[text] ??
  text
    .split(", ")
    .map((part) => words.copies.reasons[part] ?? part)
    .join(", ");

function statusText(group, decision, isSuggesting) {
  const texts = words.copies;
  if (decision.choice === "apart") return texts.apart;
  if (decision.choice === "keep") {
    const dropped = group.ids.length - decision.keep.length;
    return dropped ? texts.decided(dropped) : texts.keptAll;
  }
  if (decision.outdated) return texts.outdated;
  return isSuggesting ? texts.suggested : "";
}

function buttons({ group, decision, kept, isSuggesting, act }) {
  const texts = words.copies;
  const isOpen = decision.choice === "open";
  const button = (name, symbol, label, key, more = "") =>
    el(
      "button",
      {
        type: "button",
        class: `button small ${name} ${more}`,
        "aria-label": label,
        title: key ? `${label} (${key})` : label,
        onclick: () => act(name, null),
      },
      symbol ? icon(symbol) : null,
      el("span", { text: label }),
    );
  const accept = isSuggesting ? texts.accept(group.ids.length - kept.size) : texts.keepAll;
  return [
    isOpen ? button("accept", "check", accept, "Enter", isSuggesting ? "primary" : "") : null,
    isOpen ? button("apart", null, texts.noDuplicates, "n") : button("open", null, texts.reopen, ""),
    group.ids.length > 1 ? button("compare", "compare", texts.compare, "c", "quiet") : null,
  ];
}

function member(item, n, { group, decision, kept, best, isSuggesting, act }) {
  const texts = words.copies;
  const isKept = kept.has(item.id);
  const stays = decision.stays.includes(item.id);
  const isMarked = decision.choice === "keep" || isSuggesting;
  const folder = item.path.includes("/") ? item.path.slice(0, item.path.lastIndexOf("/")) : "";
  const name = fileName(item.path);
  const verdict = (as, label, isOn) =>
    el(
      "button",
      {
        type: "button",
        class: as,
        "aria-pressed": String(isOn),
        "aria-label": `${label}: ${name}`,
        title: as === "keep" && n < 9 ? texts.only(n + 1) : null,
        onclick: () => act(as, item.id),
      },
      label,
    );
  const value = (text, isBest) => (text ? el("span", { class: isBest ? "best" : null, text }) : null);
  return el(
    "figure",
    { class: isMarked ? (isKept ? "kept" : "dropped") : null },
    el(
      "a",
      { href: address({ item: item.id }), "data-details": item.id, title: item.path },
      whole(item, [
        el("img", { src: api.thumbnailURL(item.id, 256), alt: altText(item), decoding: "async", loading: "lazy" }),
        ...places(item, n, group),
      ]),
    ),
    act
      ? el(
          "div",
          { class: "verdict", role: "group", "aria-label": name },
          verdict("keep", texts.keep, isMarked && isKept),
          verdict("drop", texts.drop, isMarked && !isKept),
        )
      : null,
    el(
      "figcaption",
      {},
      el("b", { class: "name", title: item.path }, el("span", { text: name.slice(0, -TAIL) }), name.slice(-TAIL)),
      el("span", { class: "folder muted", title: folder }, el("bdi", { text: folder || texts.top })),
      el(
        "span",
        { class: "numbers" },
        value(item.width ? `${number(item.width)} × ${number(item.height)}` : "", best.pixels === item.id),
        value(item.size ? bytesText(item.size) : "", best.size === item.id),
      ),
      value(item.time ? dateText(item.time) : "", best.time === item.id),
      stays
        ? el("span", { class: "note", text: texts.stays })
        : el("span", { class: "note muted", text: noteOf(item, n, group), title: noteOf(item, n, group) }),
    ),
  );
}

function noteOf(item, n, group) {
  if (item.keep === "link" || n || !group.confirmed) return item.note === "similar" ? "" : inWords(item.note ?? "");
  return words.copies.original;
}

/** Which picture has the most pixels, the largest file and the oldest date, if one of them stands out. */
function bestOf(items) {
  const only = (values, best) => {
    const found = items.filter((_, n) => values[n] === best);
    return found.length < items.length && found.length === 1 ? found[0].id : null;
  };
  const pixels = items.map((item) => item.width * item.height);
  const sizes = items.map((item) => item.size);
  const times = items.map((item) => item.time || "~");
  const oldest = [...times].sort()[0];
  return {
    pixels: only(pixels, Math.max(...pixels)),
    size: only(sizes, Math.max(...sizes)),
    time: only(times, oldest),
  };
}

/** The whole picture in its box, so that shares of the picture are shares of this element. */
function whole(item, children) {
  const frame = el("span", { class: "whole" }, children);
  const ratio = item.width && item.height ? item.width / item.height : 1;
  frame.style.aspectRatio = String(ratio);
  frame.style.width = `min(100%, var(--high) * ${ratio})`;
  return frame;
}

/** The places where the pictures differ, if they are almost the same. */
function places(item, n, group) {
  const regions = n
    ? [item.region]
    : group.items
        .slice(1)
        .map((other) => other.region)
        .slice(0, REGIONS);
  return regions.filter(Boolean).map((region) => {
    const mark = el("i", { class: "place", "aria-hidden": "true" });
    ["left", "top", "width", "height"].forEach((side, of) => {
      mark.style[side] = `${(100 * region[of]).toFixed(2)}%`;
    });
    return mark;
  });
}
