/**
 * Every text of the page in English. words_de.js holds the same names in German; to add a language, copy one of them and
 * list it in words.js. A text with parts that change is a function. One section for each module, in alphabetical order.
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
  uploads: {
    none: () =>
      "Click any picture to find more like it. To search with your own pictures, the site must be exported with " +
      "onnxruntime-web.",
    noPicture: (name) => `${name || "That"} is not a picture`,
    noPictures: () => "None of these is a picture",
    pasted: () => "a pasted picture",
    sending: (share) => `Sending the picture: ${Math.floor(100 * share)} %`,
    sent: () => "The picture was sent. Searching.",
    tooMany: (most) => `Only the first ${most} pictures are used`,
  },
};
