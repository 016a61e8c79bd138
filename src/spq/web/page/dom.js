/** Helpers for elements, texts and numbers. */

import { words } from "./words.js";

export { bytesText, count, dateText, distanceText, number } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * The element of index.html that a selector names.
 * @param {string} selector
 * @param {ParentNode} root
 * @returns {any}
 */
export const $ = (selector, root = document) => root.querySelector(selector);

/**
 * All elements that a selector names.
 * @param {string} selector
 * @param {ParentNode} root
 * @returns {any[]}
 */
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/**
 * The innermost element around an event that a selector names.
 * @param {Event} event
 * @param {string} selector
 * @returns {any}
 */
export const closest = (event, selector) => /** @type {any} */ (event.target)?.closest?.(selector) ?? null;

/**
 * Create an element. attributes: `on…` add listeners, `text` sets the text, all others become attributes unless they
 * are false or null. Nothing here parses HTML, so texts of the collection are safe.
 * @param {string} tag
 * @param {Record<string, any>} attributes
 * @param {...any} children
 * @returns {any}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** One of the symbols of index.html, hidden from screen readers. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name, label, onclick, attributes = {}) {
  return el(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes },
    icon(name),
  );
}

/** Let screen readers read a text. */
export function announce(text) {
  const region = $("#said");
  region.textContent = "";
  setTimeout(() => (region.textContent = text), 50);
}

let hiding;

/** Show a line at the bottom for some seconds. */
export function toast(text) {
  const line = $("#toast");
  line.textContent = text;
  line.hidden = false;
  announce(text);
  clearTimeout(hiding);
  hiding = setTimeout(() => (line.hidden = true), 4000);
}

/** Replace the children. If one had the focus, focus the new child of the same name, or the first possible one. */
export function redraw(root, ...children) {
  const active = document.activeElement;
  const focusedName = active !== root && root.contains(active) ? nameOf(active) : null;
  root.replaceChildren(...children);
  if (focusedName === null) return;
  const able = [...root.querySelectorAll("a, button")];
  (able.find((element) => nameOf(element) === focusedName) ?? able[0])?.focus();
}

const nameOf = (element) => element.getAttribute("aria-label") ?? element.textContent;

export const fileName = (path) => path.split("/").pop() || path;

/** The text of a picture for screen readers. */
export const altText = (item) =>
  item.path ? `${item.label ? `${item.label}, ` : ""}${fileName(item.path)}` : words.common.picture(item.id);

/** Pixels of the window that the top covers. On a phone only its first line stays visible. */
export function covered() {
  const top = $("#top");
  const sticky = getComputedStyle(top).display === "contents" ? top.firstElementChild : top;
  return Math.max(0, sticky.getBoundingClientRect().bottom);
}

/**
 * Follow a pointer until it goes up, or the browser takes it over.
 * @param {EventTarget} target
 * @param {(event: any) => void} move
 * @param {() => void} end
 */
export function untilUp(target, move, end) {
  const listening = new AbortController();
  const { signal } = listening;
  const up = () => {
    listening.abort(); // removes all three listeners
    end();
  };
  target.addEventListener("pointermove", move, { signal });
  for (const type of ["pointerup", "pointercancel"]) target.addEventListener(type, up, { signal });
}

export const isAbort = (error) => error?.name === "AbortError";

export function debounce(ms, run) {
  let timer;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(run, ms, ...values);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** Copy a text; return false if the browser does not allow it. Over plain http it has no clipboard. */
export async function copyText(/** @type {string} */ text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByHand(text);
  }
}

/** Copy by way of a selected text field. */
function copyByHand(text) {
  const field = el("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" });
  field.value = text;
  const before = /** @type {any} */ (document.activeElement);
  ($("dialog[open]") ?? document.body).append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  before?.focus({ preventScroll: true });
  return isCopied;
}
