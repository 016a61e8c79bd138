/**
 * Every text of the page in English. words_de.js holds the same names in German; to add a language, copy one of them
 * and list it in words.js. A text with parts that change is a function. One section for each module, in alphabetical
 * order.
 */

import { count, number } from "./dom.js";

export const words = {
  copies: {},
  details: {
    add: "Like this",
    avoid: "Not like this",
    cannotCopy: "The browser does not allow copying.",
    cannotShow: "The picture cannot be shown: its file has moved, or the server is busy.",
    changed: "Changed",
    close: "Close details",
    copied: "Path copied",
    copy: "Copy path",
    download: "Download",
    enlarge: "Enlarge the picture",
    file: "File",
    folder: "Show in folder",
    label: "Label",
    like: "More like this",
    notFound: "Not found",
    original: "Open original",
    pixels: (/** @type {string} */ width, /** @type {string} */ height) => `${width} × ${height} pixels`,
    place: "Place",
    shape: "Picture",
    size: "Size",
  },
  explore: {},
  lightbox: {
    amplified: "Amplified",
    back: "Show one picture",
    close: "Close (Esc)",
    compare: "Compare (c)",
    compareWith: "Compare with",
    copied: "Copied",
    difference: "Difference (d)",
    different: (/** @type {string} */ pixels, /** @type {string} */ mean) =>
      `${pixels} of the pixels differ, by ${mean} on average`,
    fit: "Fit (0)",
    info: "Details (i)",
    next: "Next picture",
    of: (/** @type {string} */ position, /** @type {string} */ total) => `${position} of ${total}`,
    previous: "Previous picture",
    query: "the query",
    same: "No pixel differs",
    select: "Select (x)",
    side: "Side by side (c)",
    stage: "Picture. Plus and minus zoom, 0 fits it, arrows show the next one, or move it when it is enlarged.",
    stretched: "their shapes differ, so the second one is stretched",
    title: "Picture",
    zoomIn: "Zoom in (+)",
    zoomOut: "Zoom out (−)",
  },
  map: {},
  results: {},
  selection: {
    all: "Select all",
    copied: (/** @type {number} */ n) => `${count(n, "path")} copied`,
    csv: "CSV",
    gone: "These pictures are no longer in the index.",
    like: "More like these",
    many: (/** @type {number} */ n) => (n ? `${number(n)} selected` : "Nothing selected"),
    most: (/** @type {number} */ most, /** @type {number} */ left) =>
      `${number(most)} pictures can be selected; ${number(left)} more are not.`,
    none: "Select none (Esc)",
    paths: "Copy paths",
    saved: (/** @type {number} */ n) => `Table of ${count(n, "picture")} saved`,
    these: "Select these",
    title: "Selected pictures",
    undo: "Undo",
    zip: "Download ZIP",
    zipped: (/** @type {number} */ n, /** @type {string} */ size) =>
      `ZIP of ${count(n, "picture")}, ${size}: the browser saves it`,
  },
  tile: {
    details: "Details",
    minus: "Not like this",
    plus: "Like this",
    select: "Select",
    show: "Enlarge",
  },
  uploads: {},
};
