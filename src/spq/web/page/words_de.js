/** Every text of the page in German. */

import { number } from "./dom.js";

/** @type {typeof import("./words_en.js").words} */
export const words = {
  copies: {},
  details: {},
  explore: {},
  lightbox: {},
  map: {},
  results: {},
  selection: {
    many: (n) => (n === 1 ? "1 Bild ausgewählt" : `${number(n)} Bilder ausgewählt`),
  },
  uploads: {},
};
