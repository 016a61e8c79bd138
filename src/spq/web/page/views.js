/** The views. The pictures come with the page; the script of another view loads when it is first opened. */

import { loadStyle } from "./styles.js";

/** @type {Record<string, any>} the views that are there */
export const views = {};

const SCRIPTS = {
  map: async () => new (await import("./map.js")).CollectionMap(),
  codewords: async () => new (await import("./codewords.js")).Codewords(),
  copies: async () => new (await import("./copies.js")).Copies(),
};
const opening = {}; // name -> promise of a view

/** Load a view. A browser may keep a failure until the page is loaded again. */
export async function openView(/** @type {string} */ name) {
  opening[name] ??= Promise.all([SCRIPTS[name](), loadStyle(`${name}.css`)]);
  [views[name]] = await opening[name];
}
