/** Colours of a map's points by a column: a palette for names, a ramp for numbers, and their legend. */

import { api } from "./api.js";
import { bytesText, el, number } from "./dom.js";
import { state } from "./state.js";
import { words } from "./words.js";

export const DENSITY = "density"; // in the place of a column
const LISTED = 9; // names with a colour of their own
const PALETTES = {
  light: ["#2f6fe4", "#e0672b", "#2e9e4f", "#b83fc4", "#b8890b", "#0f9aa8", "#dd3d6d", "#7a5af0", "#6b7f1d"],
  dark: ["#6ea3ff", "#ff9a5c", "#63d184", "#e27ff0", "#e6bd45", "#4fd3e0", "#ff82a5", "#a991ff", "#b3c95a"],
};
const OTHERS = { light: "#8b8b86", dark: "#85858a" };
const RAMPS = {
  light: ["#d9e2f2", "#8fb4ee", "#3f7fe0", "#234a9e", "#101f4d"],
  dark: ["#1d2b4d", "#2c56a8", "#5b93ee", "#a9cbff", "#f3f8ff"],
};
const STEPS = 64; // of a ramp
const AGAIN = 700; // ms between two questions whether the values are ready

/**
 * Answers of the server; waits while it reads the values.
 * @param {() => Promise<any>} ask
 */
async function ready(ask, signal) {
  for (;;) {
    const found = await ask();
    if (found.state !== "computing") return found;
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
    signal?.throwIfAborted();
  }
}

/** Let the user choose what the map shows. Columns are added when they are known; if that fails, the next call asks. */
export async function fillMenu(menu, signal) {
  if (!menu.options.length) menu.append(new Option(words.map.pictures, ""), new Option(words.map.density, DENSITY));
  menu.value = state.colour;
  if (!api.can.mapValues || menu.options.length > 2) return;
  const found = await ready(() => api.facets({}, signal), signal).catch(() => null);
  if (!found || signal?.aborted || menu.options.length > 2) return;
  for (const { name } of found.facets) {
    menu.append(new Option(words.map.byColumn(words.explore.columns[name] ?? name), name));
  }
  menu.value = state.colour;
}

/**
 * The values of a column for the pictures of the map; waits while the server reads them.
 * @returns {Promise<any>} {kind, values, names, counts, low, high}, the values as a Map from id to value
 */
export async function loadValues(column, signal) {
  const found = await ready(() => api.mapValues(column, signal), signal);
  const of = new Map();
  for (let i = 0; i < found.ids.length; i++) of.set(found.ids[i], found.values[i]);
  return { ...found, of };
}

/** The column by which regions are named: labels, else folders, else codewords. Null if it could not be read. */
export async function namingColumn(signal) {
  for (const name of ["label", "folder", "codeword"]) {
    const column = await loadValues(name, signal).catch(() => null);
    if (signal?.aborted) return null; // the next call begins with the first name
    if (column?.kind === "text" && (column.names.length > 1 || name === "codeword")) return column;
  }
  return null;
}

/**
 * A colour for each point: places in a palette.
 * @param {any} column of loadValues
 * @param {Int32Array} ids
 * @param {"light" | "dark"} theme
 */
export function coloured(column, ids, theme) {
  const codes = new Uint8Array(ids.length);
  if (column.kind === "text") {
    const shown = Math.min(LISTED, column.names.length);
    for (let i = 0; i < ids.length; i++) codes[i] = Math.min(shown, column.of.get(ids[i]) ?? shown);
    return { codes, palette: [...PALETTES[theme].slice(0, shown), OTHERS[theme]] };
  }
  const span = column.high - column.low || 1;
  for (let i = 0; i < ids.length; i++) {
    const value = column.of.get(ids[i]);
    const share = Math.min(1, Math.max(0, (value - column.low) / span));
    codes[i] = Number.isNaN(share) || value === undefined ? STEPS : Math.round(share * (STEPS - 1));
  }
  return { codes, palette: [...ramp(theme), OTHERS[theme]] };
}

/** Colours of a ramp, from few to many. */
export function ramp(/** @type {"light" | "dark"} */ theme, steps = STEPS) {
  const stops = RAMPS[theme].map(channels);
  return Array.from({ length: steps }, (_, n) => {
    const at = (n / (steps - 1)) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(at));
    const mixed = stops[low].map((value, c) => Math.round(value + (at - low) * (stops[low + 1][c] - value)));
    return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
  });
}

/** [red, green, blue] of "#rrggbb". */
export const channels = (/** @type {string} */ color) =>
  [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));

/** The legend of a column: names with their colours, or both ends of a ramp. */
export function legend(column, name, /** @type {"light" | "dark"} */ theme) {
  const swatch = (color) => {
    const mark = el("i", { class: "swatch" });
    mark.style.background = color;
    return mark;
  };
  if (column.kind !== "text") {
    const bar = el("i", { class: "ramp" });
    bar.style.background = `linear-gradient(90deg, ${ramp(theme, 8).join(", ")})`;
    const text = (value) => {
      if (column.kind === "time") return `${Math.floor(value / 12)}-${String((value % 12) + 1).padStart(2, "0")}`;
      return name === "size" ? bytesText(Math.round(value)) : number(Math.round(value));
    };
    return [el("li", {}, el("span", { text: text(column.low) }), bar, el("span", { text: text(column.high) }))];
  }
  const shown = column.names.slice(0, LISTED);
  const items = shown.map((text, n) =>
    el("li", {}, swatch(PALETTES[theme][n]), el("span", { text: text || words.map.noName })),
  );
  if (column.names.length > shown.length) items.push(el("li", {}, swatch(OTHERS[theme]), words.map.others));
  return items;
}
