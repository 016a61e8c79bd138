/** The panel that narrows the collection down: columns with values and counts. Choosing one changes the filter. */

import { api } from "./api.js";
import { $$, bytesText, el, isAbort, number, redraw } from "./dom.js";
import { change, state } from "./state.js";
import { words } from "./words.js";

const FIRST = 7; // values of a column that are shown at first
const EDGE = 12; // pixels kept free at the edges of the window
const AGAIN = 500; // ms between two questions whether the counts are ready

let controller = new AbortController();
/** @type {any} */
let found = null; // the last answer
const opened = new Set(); // names of columns of which all values are shown

export function openFacets(/** @type {HTMLElement} */ panel) {
  place(panel);
  return load(panel);
}

export const closeFacets = () => controller.abort();

/** Below the button that is visible. */
function place(panel) {
  const button = [...$$("[popovertarget=facets]")].find((one) => one.getClientRects().length);
  if (!button) return;
  const { left, bottom } = button.getBoundingClientRect();
  const { width } = panel.getBoundingClientRect();
  panel.style.left = `${Math.max(EDGE, Math.min(left, document.body.clientWidth - width - EDGE))}px`;
  panel.style.top = `${bottom + 8}px`;
  panel.style.maxHeight = `${Math.max(180, window.innerHeight - bottom - 8 - EDGE)}px`;
}

/** Count again: the panel was opened, or the filter has changed. */
export async function load(panel) {
  controller.abort();
  const { signal } = (controller = new AbortController());
  panel.setAttribute("aria-busy", "true");
  try {
    for (;;) {
      found = await api.facets({ where: state.where }, signal);
      if (found.state !== "computing") break;
      panel.replaceChildren(el("p", { class: "muted", text: words.explore.reading(found.done, found.total) }));
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
      signal.throwIfAborted();
    }
    draw(panel);
  } catch (error) {
    if (isAbort(error)) return; // another count is under way, or the panel is closed
    panel.replaceChildren(el("p", { class: "muted", text: error.message }));
  }
  panel.setAttribute("aria-busy", "false");
}

function draw(panel) {
  const head = el(
    "div",
    { class: "head" },
    el("h2", { text: words.explore.facets }),
    el("span", { class: "muted", text: words.map.all(found.total) }),
    state.where
      ? el("button", { type: "button", class: "button small quiet", onclick: clear }, words.filter.clear)
      : null,
  );
  const groups = found.facets.map((facet) => group(panel, facet));
  redraw(panel, head, groups.length ? el("div", { class: "groups" }, groups) : el("p", { text: words.explore.same }));
}

const clear = () => change({ where: "", max: null, at: 0 });

function group(panel, { name, values, more }) {
  const isOpen = opened.has(name);
  const shown = values.filter((value, n) => isOpen || n < FIRST || value.chosen);
  const most = Math.max(...values.map((value) => value.count));
  const hidden = values.length - shown.length;
  const open = () => {
    opened.add(name);
    draw(panel);
  };
  return el(
    "section",
    {},
    el("h3", { text: words.explore.columns[name] ?? name }),
    el(
      "ul",
      {},
      shown.map((value) => el("li", {}, choice(name, value, most))),
    ),
    hidden
      ? el("button", { type: "button", class: "button small quiet", onclick: open }, words.explore.moreValues(hidden))
      : null,
    isOpen && more ? el("p", { class: "muted", text: words.explore.unlisted(more) }) : null,
  );
}

function choice(name, { text, count, chosen, where }, most) {
  const bar = el("i", { class: "share" });
  bar.style.width = `${(100 * count) / most}%`;
  const label = valueText(name, text);
  return el(
    "button",
    {
      type: "button",
      class: "value",
      "aria-pressed": String(chosen),
      title: label,
      onclick: () => change({ where, max: null, at: 0, since: null }),
    },
    bar,
    el("span", { text: label }),
    el("b", { text: number(count) }),
  );
}

/** A value as people read it: sizes with their unit, ranges as "640 to 1,280". */
function valueText(name, text) {
  if (text === "") return words.explore.none;
  const isRange = text.includes(" - ") && ["size", "width", "height"].includes(name);
  if (!isRange && name !== "size") return text;
  const unit = (part) => (name === "size" ? bytesText(Number(part)) : number(Number(part)));
  const [low, high] = isRange ? text.split(" - ") : [text, text];
  if (!low) return words.explore.below(unit(high));
  if (!high) return words.explore.from(unit(low));
  return low === high ? unit(low) : words.explore.between(unit(low), unit(high));
}
