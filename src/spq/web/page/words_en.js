/**
 * Every text of the page in English. words_de.js holds the same names in German; to add a language, copy one of them
 * and list it in words.js. A text with parts that change is a function. One section for each module, in alphabetical
 * order.
 */

import { count } from "./dom.js";

export const words = {
  copies: {},
  details: {},
  explore: {},
  lightbox: {},
  map: {},
  results: {},
  selection: {
    many: (n) => `${count(n, "picture")} selected`,
  },
  uploads: {},
};
