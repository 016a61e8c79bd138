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
  bands: {
    byCode:
      "The picture of the search cannot be read any more, so its code is compared: less exact than the picture " +
      "itself.",
    byCodeOnSite:
      "On this page, pictures of the collection are compared by their codes: less exact than the " + "pictures.",
    closeOnes: (/** @type {number} */ n) => `${n === 1 ? "One is" : `${number(n)} are`} close.`,
    distance: (/** @type {string} */ text) => `Distance ${text}.`,
    lessThan: (/** @type {string} */ text) => `less than ${text}`,
    line: "Far from here on",
    lineMeaning: "Here similarity ends: beyond this line, pictures are no nearer than 5 of 100 random ones.",
    meaning: {
      file: "Same file: all of its bytes are those of the picture of the search.",
      same: (/** @type {string} */ copies, /** @type {string} */ others) =>
        `Probably the same picture: ${copies} of 100 copies that were cropped, darkened, shrunk or saved again ` +
        `come this ` +
        `near. But ${others} of 100 pictures have a different picture as near.`,
      veryClose: (/** @type {string} */ copies, /** @type {string} */ random) =>
        `Very close: ${copies} of 100 altered copies come this near, and ${random} of 100 random pictures.`,
      close: "Close: only 5 of 100 random pictures come this near.",
      far: "Far: more than 5 of 100 random pictures come this near. Their order says little.",
    },
    names: { file: "same file", same: "same picture", veryClose: "very close", close: "close", far: "far" },
    nothingClose: "Nothing is close: even the first picture is no nearer than 5 of 100 random ones.",
    several: "Searched with several pictures: the order counts, and there are no bands such as “close”.",
    tie: (/** @type {number} */ n, /** @type {boolean} */ isMore) =>
      `${isMore ? "More than " : ""}${number(n)} pictures are equally near: their codes are equal. Their order ` +
      `says nothing.`,
    tieMark: (/** @type {number} */ n, /** @type {boolean} */ isMore) => `${isMore ? "over " : ""}${number(n)} tie`,
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
    computing: (/** @type {string} */ stage, /** @type {number} */ done, /** @type {number} */ total) =>
      `Comparing all pictures${total ? `, ${Math.floor((100 * done) / total)} %` : ""} (${stage})`,
    orders: {
      id: "As indexed",
      path: "By name",
      time: "Newest files first",
      new: "Last added first",
      unusual: "Unusual first",
      random: "Random",
    },
    shuffle: "Shuffle again",
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
      "(width >= 640 or path ~ summer/*)`. The page suggests columns, operators and values as you type. `~` " +
      "compares " +
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
    numbers: "Distances as numbers",
    shape: "Shape",
    size: "Picture size",
    system: "System",
    theme: "Theme",
    title: "Appearance",
  },
  map: {
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
  results: {
    allDistances: "Show all distances",
    answers: "Pictures, the most similar first",
    badFilter: "The filter is not valid",
    changed: (/** @type {number} */ total) => count(total, "new or changed picture"),
    empty: "No pictures yet",
    emptyText: "Add pictures with spq index. They will appear here.",
    errors: {
      busy: "The server is busy",
      fault: "Something went wrong",
      gone: "The server does not answer",
      missing: "Not in this collection",
      refused: "Cannot search with this",
      token: "This page needs its token",
    },
    filtered: (/** @type {number} */ total, /** @type {number} */ all) =>
      `${number(total)} of ${count(all, "picture")}`,
    keepsTrying: "The page keeps trying. Nothing is lost.",
    lost: "That picture is not in this browser",
    lostText: "A picture that you drop stays in your browser. Drop it here again to search with it.",
    moreThan: (/** @type {number} */ total) => `more than ${number(total)} pictures`,
    nearestFirst: (/** @type {string} */ pictures, /** @type {string} */ upTo) =>
      upTo ? `${pictures} (${upTo}), nearest first` : `${pictures}, nearest first`,
    noMatch: "No picture matches the filter",
    noNew: "No new pictures",
    noOthers: "No other pictures",
    noOthersText: "The collection has no other pictures.",
    noneUpTo: (/** @type {string} */ distance) => `No picture within distance ${distance}`,
    orders: { id: "As indexed", path: "By name", time: "Newest files first", new: "Last added first" },
    pictures: (/** @type {number} */ total) => count(total, "picture"),
    showAll: "Show all pictures",
  },
  search: {
    again: "Search again",
    anyDistance: "any distance",
    changeRegion: "Change region",
    clear: "Clear",
    cutOff: "Show up to",
    cutOffAtLine: "all that are close",
    fold: "One picture per code",
    gone: "no longer in this browser",
    like: (/** @type {string} */ name) => `like ${name}`,
    markFirst: "Mark a picture with + first",
    missing: "a missing picture",
    notLike: (/** @type {string} */ name) => `not like ${name}`,
    region: "Region",
    remove: (/** @type {string} */ what) => `Remove: ${what}`,
    title: "Current search",
    upTo: (/** @type {string} */ distance) => `up to ${distance}`,
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
      "pixels. Pictures with the same codeword look alike in one respect, for example in colour or shape. A " +
      "codebook " +
      "has no name for it: look at its pictures.",
    bands:
      "What the words mean was measured with copies of your own pictures that were cropped, darkened, shrunk and " +
      "saved " +
      "again. Same picture: as near as such copies, and hardly any other picture. Very close: as near as most " +
      "such copies. " +
      "Close: nearer than 95 of 100 random pictures. Far: all others. Point at a picture to read its numbers.",
    cutOff:
      "Pictures beyond this distance are hidden. The distance says how much a picture differs from your search. " +
      "The mark " +
      "on the slider is where similarity ends: beyond it, pictures are no nearer than 5 of 100 random ones.",
    fold:
      "Pictures that the model cannot tell apart have the same code. With this, only the first of them is shown, " +
      "and " +
      "it says how many others there are.",
    label: "What is this?",
  },
};
