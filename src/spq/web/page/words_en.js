/**
 * Every text of the page in English. words_de.js holds the same names in German; to add a language, copy one of them
 * and list it in words.js. A text with parts that change is a function. One section for each module, in alphabetical
 * order.
 */

import { count, number } from "./dom.js";

export const words = {
  bands: {
    byCode:
      "The picture of the search cannot be read any more, so its code is compared: less exact than the picture itself.",
    byCodeOnSite: "On this page, pictures of the collection are compared by their codes: less exact than the pictures.",
    closeOnes: (n) => `${n === 1 ? "One is" : `${number(n)} are`} close.`,
    distance: (text) => `Distance ${text}.`,
    lessThan: (text) => `less than ${text}`,
    line: "Similarity ends here",
    lineMeaning: "Beyond this line, pictures are no nearer than 5 of 100 random ones.",
    meaning: {
      file: "Same file: all of its bytes are those of the picture of the search.",
      same: (copies, others) =>
        `Probably the same picture: ${copies} of 100 copies that were cropped, darkened, shrunk or saved again come this ` +
        `near. But ${others} of 100 pictures have a different picture as near.`,
      veryClose: (copies, random) =>
        `Very close: ${copies} of 100 altered copies come this near, and ${random} of 100 random pictures.`,
      close: "Close: only 5 of 100 random pictures come this near.",
      far: "Far: more than 5 of 100 random pictures come this near. Their order says little.",
    },
    names: { file: "same file", same: "same picture", veryClose: "very close", close: "close", far: "far" },
    nothingClose: "Nothing is close: even the first picture is no nearer than 5 of 100 random ones.",
    several: "Searched with several pictures: the order counts, and there are no bands such as “close”.",
    short: {
      file: "the same bytes",
      same: "as near as altered copies, and hardly any other picture",
      veryClose: "as near as most altered copies; often the same thing",
      close: "nearer than 95 of 100 random pictures",
      far: "as far as random pictures",
    },
    tie: (n, isMore) =>
      `${isMore ? "More than " : ""}${number(n)} pictures are equally near: their codes are equal. Their order says nothing.`,
    tieMark: (n, isMore) => `${isMore ? "over " : ""}${number(n)} tie`,
  },
  copies: {},
  cutOff: {
    any: "any distance",
    label: "Show up to",
    line: "all that are close",
    title: "Hides pictures that are farther away. The mark is where similarity ends.",
    upTo: (text) => `up to ${text}`,
  },
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
