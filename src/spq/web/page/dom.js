/** Elements, and numbers as people read them. */

const SVG = "http://www.w3.org/2000/svg";

export const $ = (selector, root = document) => root.querySelector(selector);

/**
 * An element. attributes: `on…` are listeners, `class` and `text` what they say, others attributes (false, null: none).
 * Text from the collection goes in as text only: nothing here reads HTML.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** One of the symbols of index.html; decoration, so never read out. */
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
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes }, icon(name));
}

/** Said to screen readers. */
export function announce(text) {
  const region = $("#said");
  region.textContent = "";
  setTimeout(() => (region.textContent = text), 50);
}

let hiding;

/** A line at the bottom that goes away by itself. */
export function toast(text) {
  const line = $("#toast");
  line.textContent = text;
  line.hidden = false;
  announce(text);
  clearTimeout(hiding);
  hiding = setTimeout(() => (line.hidden = true), 4000);
}

/** Other children, of which one that is called as the one that had the focus has it now; else the first that can. */
export function redraw(root, ...children) {
  const active = document.activeElement;
  const held = active !== root && root.contains(active) ? called(active) : null;
  root.replaceChildren(...children);
  if (held === null) return;
  const able = [...root.querySelectorAll("a, button")];
  (able.find((element) => called(element) === held) ?? able[0])?.focus();
}

const called = (element) => element.getAttribute("aria-label") ?? element.textContent;

export const number = (value) => value.toLocaleString("en");

export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

/** Four significant digits; a distance says more by its order than by its value. */
export const distanceText = (value) => (Number.isFinite(value) ? value.toFixed(Math.abs(value) < 100 ? 2 : 0) : "–");

export function bytesText(size) {
  if (size < 1000) return `${size} bytes`;
  return size < 1e6 ? `${(size / 1e3).toFixed(0)} kB` : `${(size / 1e6).toFixed(1)} MB`;
}

export function dateText(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? "unknown" : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

export const fileName = (path) => path.split("/").pop() || path;

/** What a picture is called for who cannot see it. */
export const altText = (item) =>
  item.path ? `${item.label ? `${item.label}, ` : ""}${fileName(item.path)}` : `picture ${item.id}`;

/** Pixels of the window that the top covers: all of it, or on a phone its first line. */
export function covered() {
  const top = $("#top");
  const sticky = getComputedStyle(top).display === "contents" ? top.firstElementChild : top;
  return Math.max(0, sticky.getBoundingClientRect().bottom);
}

export const isAbort = (error) => error?.name === "AbortError";

export function debounce(ms, run) {
  let timer;
  const later = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(run, ms, ...given);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** Copies text; false where the browser does not allow it. */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // over plain http from another machine there is no clipboard
  }
}
