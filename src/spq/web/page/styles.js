/** Style sheets that the first view does not need. */

import { $ } from "./dom.js";

/** @type {Map<string, Promise<void>>} */
const loaded = new Map();

/** Load a style sheet of the page, once. Without it a part looks plain, but works. */
export function loadStyle(/** @type {string} */ name) {
  if (!loaded.has(name)) {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(name, import.meta.url).href;
    loaded.set(
      name,
      new Promise((resolve) => {
        link.onload = link.onerror = () => resolve();
      }),
    );
    $("link[href$='small_screens.css']").before(link); // what small screens need comes last
  }
  return loaded.get(name);
}
