/**
 * Every text of the page in English. words_de.js holds the same names in German; to add a language, copy one of them
 * and list it in words.js. A text with parts that change is a function. One section for each module, in alphabetical
 * order. In texts of index.html, `code` and *bold* are marked like this.
 */

import { count, number } from "./format.js";

export const words = {
  app: {
    like: (/** @type {string} */ name) => `Like ${name}`,
    search: "Search",
  },
  api: {
    gone: "The server does not answer.",
    incomplete: "The server's answer is incomplete.",
    status: (/** @type {string} */ status) => `The server answered ${status}`,
  },
  bar: {
    home: "All pictures",
    pick: "Search with a picture",
    pickHow: "Drop, paste or choose a picture (o)",
    skip: "Skip to the pictures",
    views: "Views",
  },
  codewords: {
    all: "All codewords",
    book: (/** @type {number} */ book) => `Codebook ${book}`,
    books: "Codebooks",
    empty: "A codeword shows the pictures that use it.",
    emptyTitle: "No pictures yet",
    failed: "The codewords could not be read",
    oneFailed: "This codeword could not be read",
    pictures: "Pictures of a codeword",
    sorted: (/** @type {number} */ book, /** @type {number} */ used) =>
      `Codebook ${book} sorts the pictures into ${count(used, "group")}. Pictures in one group look alike to it.`,
    title: "What the model sees",
    unused: (/** @type {number} */ idle) => `Not used: ${count(idle, "codeword")}.`,
    word: (/** @type {number} */ word) => `Codeword ${word}`,
    wordLabel: (/** @type {number} */ word, /** @type {number} */ many) =>
      `Codeword ${word}, ${count(many, "picture")}`,
    wordText: (/** @type {number} */ book, /** @type {number} */ word, /** @type {number} */ many) =>
      `Codebook ${book}, codeword ${word}: ${count(many, "picture")}, the most typical first.`,
  },
  common: {
    picture: (/** @type {number | string} */ id) => `picture ${id}`,
    tryAgain: "Try again",
  },
  copies: {},
  details: {
    title: "Details",
  },
  drop: {
    like: "Also like this",
    not: "Not like this",
    search: "Search with this",
  },
  explore: {
    computing: (/** @type {number} */ done, /** @type {number} */ total) =>
      `Comparing all pictures${total ? `, ${Math.floor((100 * done) / total)} %` : ""}`,
    orders: {
      id: "As indexed",
      path: "By name",
      time: "Newest files first",
      new: "Last added first",
      unusual: "Unusual first",
      random: "Random",
    },
    below: (/** @type {string} */ high) => `below ${high}`,
    between: (/** @type {string} */ low, /** @type {string} */ high) => `${low} to ${high}`,
    columns: /** @type {Record<string, string>} */ ({
      label: "Label",
      folder: "Folder",
      size: "File size",
      width: "Width in pixels",
      height: "Height in pixels",
      time: "Changed",
    }),
    facets: "Narrow down",
    from: (/** @type {string} */ low) => `${low} or more`,
    moreValues: (/** @type {number} */ many) => `${number(many)} more`,
    none: "none",
    reading: (/** @type {number} */ done, /** @type {number} */ total) =>
      `Counting${total ? `, ${Math.floor((100 * done) / total)} %` : ""}`,
    same: "These pictures differ in nothing that they could be chosen by.",
    shuffle: "Shuffle again",
    unlisted: (/** @type {number} */ many) => `and ${number(many)} more values`,
  },
  filter: {
    and: "both",
    choices: { "=": "is", "!=": "is not", "~": "matches * and ?", in: "is one of" },
    clear: "Clear the filter",
    kinds: { text: "text", number: "number", time: "time" },
    label: "Filter",
    limits: { ">=": "at least", "<=": "at most", "<": "below", ">": "above" },
    or: "one of them",
    placeholder: "Filter: words, or width >= 640",
    said: (/** @type {string} */ error) => `Filter: ${error}`,
    suggestions: "Suggestions",
  },
  help: {
    button: "Help (?)",
    close: "Close help",
    filter:
      "Words such as `red shoes` match the path and the label. Conditions are more exact: `label = shoes and " +
      "(width >= 640 or path ~ summer/*)`. The page suggests columns, operators and values as you type. `~` compares " +
      "with wildcards: `*` and `?`. Write dates as `2024-05`.",
    keyAgain: "search again with the marks",
    keyChoose: "choose a picture",
    keyDetails: "details",
    keyEscape: "close what is on top",
    keyFilter: "filter",
    keyLike: "more like this",
    keyMark: "mark; press again to unmark",
    keyMove: "move among pictures",
    keyRegion: "choose a region of the picture",
    keyViews: "pictures, map, codewords, copies",
    space: "Space",
    start:
      "Drop, paste or choose a picture to find similar ones. Click any picture to find more like it. Mark pictures " +
      "with + (like this) or − (not like this), then search again.",
    title: "Help",
  },
  invite: {
    choose: "*Choose a picture* to find similar ones.",
    drop: "*Drop a picture here* to find similar pictures. You can also paste one, or choose a file.",
  },
  lightbox: {},
  live: {
    back: "The server is back",
    behind: (/** @type {string} */ error) => `The index is not up to date: ${error}`,
    busy: "The server is busy. The page tries again soon.",
    changed: "The collection has changed",
    gone: "The server does not answer. The page keeps trying.",
    looking: "Looking for new pictures",
    news: (/** @type {number} */ many) => count(many, "new picture"),
    notNow: "Not now",
    reading: (/** @type {number} */ done, /** @type {number} */ total) =>
      `Reading new pictures: ${number(done)} of ${number(total)}`,
    reload: "Reload",
    show: "Show",
    sync: "Sync",
    token: "This page needs its token: open it with the address that spq serve printed.",
    tryNow: "Try now",
    unreadable: (/** @type {number} */ failed) => `, ${number(failed)} unreadable`,
  },
  look: {
    contain: "Whole picture",
    cover: "Fill the square",
    dark: "Dark",
    language: "Language",
    light: "Light",
    shape: "Shape",
    size: "Picture size",
    system: "System",
    theme: "Theme",
    title: "Appearance",
  },
  map: {
    all: (/** @type {number} */ many) => count(many, "picture"),
    answers: (/** @type {number} */ many) => `${number(many)} nearest`,
    closeList: "Close the list",
    inView: "In view",
    inViewHow: "List what is in view (Enter)",
    keys: "Map of the collection. Arrows move it, plus and minus zoom, 0 shows all, Enter lists what is in view.",
    lasso: "Lasso",
    lassoHow: "Draw around pictures (l, or Shift and drag)",
    likeThese: "More like these",
    zoomFit: "Show all (0)",
    zoomIn: "Zoom in (+)",
    zoomOut: "Zoom out (−)",
    byColumn: (/** @type {string} */ name) => `Colours: ${name}`,
    colour: "What the map shows",
    density: "Density",
    empty: "The map shows the whole collection at once.",
    emptyTitle: "No pictures yet",
    failed: "The map could not be drawn",
    found: (/** @type {number} */ many) => `${count(many, "picture")} in the lasso`,
    inLasso: "Pictures in the lasso",
    more: (/** @type {number} */ many) => `and ${count(many, "more picture")} here`,
    noName: "no name",
    none: (/** @type {string} */ where) => `No picture on the map matches ${where}.`,
    noneTitle: "No picture matches",
    notHere: "This picture is not among those on the map",
    others: "others",
    part: (/** @type {number} */ some, /** @type {number} */ all) => `${number(some)} of ${count(all, "picture")}`,
    pictures: "Pictures",
    sample: (/** @type {string} */ some, /** @type {string} */ all) => `${some} of ${all}, a random sample`,
    show: "Show on the map",
    arrange: "Show pictures that are alike together",
    arranging: {
      computing: (/** @type {any} */ { stage, done, total }) =>
        `Arranging by neighbours${total ? `, ${stage}: ${Math.floor((100 * done) / total)} %` : ""}`,
      missing: () => "Arranged by the largest differences. For neighbourhoods: pip install 'spq-retrieval[map]'",
      failed: () => "",
    },
  },
  pictures: {
    order: "Order",
  },
  region: {
    cannotShow: "The browser cannot show this picture",
    cancel: "Cancel",
    label: (/** @type {number[]} */ [left, top, width, height]) =>
      `Region of ${width} by ${height} pixels, ${left} from the left and ${top} from the top. ` +
      "Arrows move it, with Shift they resize it.",
    picture: "The picture of the search",
    search: "Search",
    text: (/** @type {number[]} */ [left, top, width, height]) => `${width} × ${height} pixels at ${left}, ${top}`,
    title: "Search with a region",
    whole: "Whole picture",
  },
  results: {},
  search: {
    again: "Search again",
    clear: "Clear",
    cutOff: "Largest distance",
    fold: "One picture per code",
    region: "Region",
    title: "Current search",
  },
  selection: {
    many: (/** @type {number} */ n) => `${count(n, "picture")} selected`,
  },
  uploads: {
    none: () =>
      "Click any picture to find more like it. To search with your own pictures, the site must be exported with " +
      "onnxruntime-web.",
    noPicture: (/** @type {string} */ name) => `${name || "That"} is not a picture`,
    noPictures: () => "None of these is a picture",
    pasted: () => "a pasted picture",
    progress: "Sent",
    sending: (/** @type {number} */ share) => `Sending the picture: ${Math.floor(100 * share)} %`,
    sent: () => "The picture was sent. Searching.",
    tooMany: (/** @type {number} */ most) => `Only the first ${most} pictures are used`,
  },
  views: {
    codewords: "Codewords",
    copies: "Copies",
    map: "Map",
    pictures: "Pictures",
  },
  why: {
    codeword:
      "The model describes a picture by a few codewords, one from each codebook: a short code instead of all its " +
      "pixels. Pictures with the same codeword look alike in one respect, for example in colour or shape. A codebook " +
      "has no name for it: look at its pictures.",
    cutOff:
      "The distance says how much a picture differs from your search; 0 is no difference. Pictures beyond the " +
      "largest distance are hidden.",
    fold:
      "Pictures that the model cannot tell apart have the same code. With this, only the first of them is shown, and " +
      "it says how many others there are.",
    label: "What is this?",
  },
};
