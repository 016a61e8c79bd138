/**
 * Every text of the page in English. words_de.js holds the same names in German. To add a language, copy one of them,
 * and name it in words.js, in theme.js and in the menu of index.html. A text with parts that change is a function. One
 * section for each module, in alphabetical order. In texts of index.html, `code` and *bold* are marked like this.
 */

import { count, number, sizeText } from "./format.js";

/** What a search for copies does, as its server names it. */
const STAGES = {
  "reading pictures": "Reading pictures",
  "comparing codes": "Comparing codes",
  "comparing thumbs": "Comparing small pictures",
  "laying thumbs together": "Laying small pictures over each other",
  "comparing at full size": "Comparing at full size",
  "reading dates": "Reading dates",
  "calibrating on altered copies": "Measuring how alike copies are",
  "waiting for another process of this server, which compares the pictures": "Waiting for another process",
};

const left = (/** @type {number} */ seconds) =>
  seconds < 90
    ? `About ${Math.max(5, 5 * Math.round(seconds / 5))} s left in this step`
    : `About ${count(Math.round(seconds / 60), "minute")} left in this step`;

export const words = {
  app: {
    like: (/** @type {string} */ name) => `Like ${name}`,
    search: "Search",
  },
  api: {
    gone: "The server does not answer.",
    incomplete: "The server's answer is incomplete.",
    otherSite: (/** @type {string} */ address) =>
      `The server does not know this address. Start it with the option --public-url ${address}`,
    status: (/** @type {string} */ status) => `The server answered ${status}`,
  },
  bands: {
    byCode:
      "The picture of the search cannot be read any more, so its code is compared: less exact than the picture " +
      "itself.",
    byCodeOnSite: "On this page, pictures of the collection are compared by their codes: less exact than the pictures.",
    closeOnes: (/** @type {number} */ n) => `${n === 1 ? "One is" : `${number(n)} are`} close.`,
    manyClose: (/** @type {number} */ n) => `At least ${number(n)} are close.`,
    distance: (/** @type {string} */ text) => `Distance ${text}.`,
    lessThan: (/** @type {string} */ text) => `less than ${text}`,
    line: "Far from here on",
    lineMeaning: "Here similarity ends: beyond this line, pictures are no nearer than 5 of 100 random ones.",
    meaning: {
      file: "Same file: all of its bytes are those of the picture of the search.",
      same: (/** @type {string} */ copies, /** @type {string} */ others) =>
        `Probably the same picture: ${copies} of 100 copies that were cropped, darkened, shrunk or saved again ` +
        `come this near. But ${others} of 100 pictures have a different picture as near.`,
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
    mostly: (/** @type {string} */ label) => `mostly ${label}`,
    nothing: "No picture matches the filter",
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
  copies: {
    comparing: "Comparing",
    groups: "Groups of copies",
    kindsOf: "Kinds of copies",
    kinds: {
      identical: "Identical files",
      "re-encoded": "Re-encoded or resized",
      edited: "Edited",
      almost: "Almost the same",
      burst: "Taken within seconds",
      similar: "Only similar",
    },
    about: {
      identical: "Every byte is the same.",
      "re-encoded": "The same picture, saved again or in another size. Compared at full size.",
      edited: "The same picture, changed: grey, cropped, turned, with a border or a text. Compared at full size.",
      almost: "Not copies: one place differs, which is marked.",
      burst: "Not copies: taken by one camera within seconds.",
      similar: "Different pictures that look alike to the model.",
    },
    unconfirmed: {
      almost: "not copies: look at the marked place",
      burst: "not copies: taken within seconds",
      similar: "different pictures that look alike",
    },
    allKinds: "All",
    lead: "Decide which pictures of a group stay. spq deletes nothing: at the end you save a list or a script.",
    visitors: "Decisions are for a browser on the machine of the server, and for those who have its token.",
    leadOfSite: "Groups of copies, as they were when this site was made.",
    falseMatches: (share) => `${(100 * share).toPrecision(2)} % of random pairs also count as similar.`,
    stale: "The collection has changed since. The server is making a new report: load the page again in a while.",
    noReport: "No report of copies",
    again: "Try again",
    none: "No copies",
    noneText: (pictures) => `All ${number(pictures)} pictures differ.`,
    noGroups: "No groups here",
    noGroupsText: "No group fits the filter and the choices above.",
    allDone: (groups) => `All ${count(groups, "group")} decided`,
    allDoneText: "Save the list, or the script that moves the dropped pictures to a trash folder.",
    working: ({ stage, done, total, step, steps, remaining }) => {
      const name = STAGES[stage] ?? stage;
      const many = done < total ? `, ${number(done)} of ${number(total)}` : "";
      return `Step ${step} of ${steps}: ${name}${many}${remaining === null ? "" : `. ${left(remaining)}`}`;
    },
    show: "Show",
    shown: { open: "to decide", decided: "decided", all: "all groups" },
    withSimilar: (groups) => `also ${count(groups, "group")} of pictures that only look alike`,
    progress: (decided, groups, size, isPart) =>
      `${number(decided)} of ${count(groups, "group")} decided, ${sizeText(size)} would be freed` +
      `${isPart ? " in all kinds" : ""}`,
    decidedGroups: "Decided groups",
    outdatedMany: (many) => `${count(many, "decision")} outdated: a picture has changed since`,
    undo: "Undo",
    undone: (many) => `${count(many, "decision")} undone`,
    notUndone: "Nothing to undo: these groups were decided again since",
    others: (many) => `Another tab has decided ${count(many, "group")}`,
    overwritten: "Another tab had decided this group differently. Your decision counts now.",
    notSaved: (why) => `Not saved: ${why}`,
    why: (why) => (why ? `keep: ${why}` : ""),
    original: "suggested to keep",
    suggested: "Suggested",
    decided: (dropped) => `Decided: ${number(dropped)} dropped`,
    keptAll: "Decided: all stay",
    apart: "Not duplicates",
    outdated: "Outdated: a picture has changed since",
    accept: (dropped) => `Accept: drop ${number(dropped)}`,
    keepAll: "Keep all",
    noDuplicates: "Not duplicates",
    reopen: "Decide again",
    compare: "Compare",
    keep: "Keep",
    drop: "Drop",
    only: (n) => `Key ${n} keeps only this picture`,
    oneStays: "One picture of a group stays. To drop others, keep this one.",
    stays: "stays: kept in another group",
    top: "top folder",
    more: (many) => `and ${number(many)} more, which are not shown`,
    said: (choice, dropped) =>
      choice === "apart" ? "Not duplicates" : dropped ? `${count(dropped, "picture")} dropped` : "All kept",
    reasons: /** @type {Record<string, string>} */ ({}), // of the server, where another language needs them
    close: "Close",
    rules: "Rules",
    ruleFor: (kinds) =>
      `For all undecided groups: ${kinds.join(", ").toLowerCase()}. A rule never drops a picture that shows more ` +
      "than the one that it keeps.",
    rule: {
      suggested: "Accept what is suggested",
      oldest: "Keep the oldest",
      newest: "Keep the newest",
      largest: "Keep the largest file",
      pixels: "Keep the one with the most pixels",
      folder: "Keep what is in this folder",
    },
    folder: "Folder",
    folderOf: (folder, groups) => `${folder || "top folder"} (${count(groups, "group")})`,
    effect: ({ groups, open, pictures, bytes }) =>
      groups
        ? `Decides ${number(groups)} of ${count(open, "group")}: ` +
          `${count(pictures, "picture")} dropped, ${sizeText(bytes)}.`
        : "Decides no group.",
    apply: (groups) => (groups ? `Decide ${count(groups, "group")}` : "Decide"),
    ruleDone: (groups) => `${count(groups, "group")} decided. Undo takes all of them back.`,
    save: "Save",
    saveWhat: (dropped, size) => `${count(dropped, "picture")} to drop, ${sizeText(size)}. Nothing has been moved yet.`,
    saveNothing: "No picture is dropped so far.",
    script: "Script for a trash folder",
    scriptText:
      "It moves the dropped pictures to a trash folder beside the collection, and deletes nothing. Without --go it " +
      "only says what it would do. A picture stays if it or the kept one has changed.",
    saveScript: "Save the script",
    list: "List",
    listText: "All groups with your decisions, for a spreadsheet or another program.",
    saveList: "Save as CSV",
    place: (/** @type {string} */ file) => `Your decisions are kept in ${file}`,
  },
  details: {
    add: "Like this",
    avoid: "Not like this",
    cannotCopy: "The browser does not allow copying.",
    cannotShow: "The picture cannot be shown: its file has moved, or the server is busy.",
    changed: "Changed",
    close: "Close details",
    codeword: (/** @type {number} */ book, /** @type {number} */ word) => `codebook ${book}, codeword ${word}`,
    codewords: "Its codewords, one per codebook. Click one to see the pictures that share it.",
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
    part: (/** @type {number} */ book, /** @type {string} */ distance, /** @type {boolean} */ isNearest) =>
      `codebook ${book}: ${distance}${isNearest ? ", the nearest codeword" : ""}`,
    pixels: (/** @type {string} */ width, /** @type {string} */ height) => `${width} × ${height} pixels`,
    reading: (
      /** @type {string} */ distance,
      /** @type {number} */ agreeing,
      /** @type {number} */ books,
      /** @type {boolean} */ isSigned,
    ) =>
      `Distance ${distance}. In ${agreeing} of ${count(books, "codebook")} its codeword is the nearest one. ` +
      (isSigned ? "Bars below zero reduce the distance." : "Shorter bars mean more similar."),
    sees: "What the model sees",
    shape: "Picture",
    size: "Size",
    title: "Details",
    why: "Why it matched",
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
    control: "Ctrl",
    filter:
      "Words such as `red shoes` match the path and the label. Conditions are more exact: `label = shoes and " +
      "(width >= 640 or path ~ summer/*)`. The page suggests columns, operators and values as you type. `~` " +
      "compares with wildcards: `*` and `?`. Write dates as `2024-05`.",
    keyAll: "select all",
    keyAgain: "search again with the marks",
    keyChoose: "choose a picture",
    keyDecide: "copies: accept, not duplicates, undo",
    keyDetails: "details",
    keyEscape: "close, or select none",
    keyFilter: "filter",
    keyGroups: "copies: next and previous group",
    keyLike: "more like this",
    keyMark: "mark; press again to unmark",
    keyMove: "move among pictures",
    keyOnly: "copies: in a group, keep only this picture",
    keyRegion: "choose a region of the picture",
    keySelect: "select; a click with Shift selects a range",
    keyShow: "enlarge",
    keyViews: "pictures, map, codewords, copies",
    enlarged: "Enlarged",
    map: "Map",
    press: "Hold",
    space: "Space",
    tap: "Tap",
    touchMap: "drag to move, two fingers to zoom",
    touchSelect: "select; then tap others",
    touchStage: "swipe to the next, down to close; two fingers or a double tap to zoom",
    start:
      "Drop, paste or choose a picture to find similar ones. Click any picture to find more like it. Mark pictures " +
      "with + (like this) or − (not like this), then search again.",
    title: "Help",
  },
  invite: {
    choose: "*Choose a picture* to find similar ones.",
    drop: "*Drop a picture here* to find similar pictures. You can also paste one, or choose a file.",
  },
  lightbox: {
    amplified: "Amplified",
    between: (/** @type {string} */ one, /** @type {string} */ other) => `${one} against ${other}`,
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
    stage: "Picture. Plus and minus zoom, 0 fits it, arrows show the next one, or move it when it is enlarged.",
    stretched: (/** @type {string} */ name) => `their shapes differ, so ${name} is stretched`,
    title: "Picture",
    zoomIn: "Zoom in (+)",
    zoomOut: "Zoom out (−)",
  },
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
    moreThan: (/** @type {number} */ total) => `More than ${number(total)} pictures`,
    nearestFirst: (/** @type {string} */ pictures, /** @type {string} */ upTo) =>
      upTo ? `${pictures} (${upTo}), nearest first` : `${pictures}, nearest first`,
    noMatch: "No picture matches the filter",
    noNew: "No new pictures",
    noOthers: "No other pictures",
    noOthersText: "The collection has no other pictures.",
    noneUpTo: (/** @type {string} */ distance) => `No picture within distance ${distance}`,
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
    all: "Select all",
    copied: (/** @type {number} */ n) => `${count(n, "path")} copied`,
    csv: "CSV",
    examples: (/** @type {number} */ used, /** @type {number} */ all) =>
      `Searched with ${number(used)} of these ${count(all, "picture")}`,
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
    lost: "not readable",
    minus: "Not like this",
    plus: "Like this",
    same: (/** @type {number} */ more) => `+${number(more)} same code`,
    select: "Select",
    show: "Enlarge",
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
      "codebook has no name for it: look at its pictures.",
    bands:
      "What the words mean was measured with copies of your own pictures that were cropped, darkened, shrunk and " +
      "saved again. Same picture: as near as such copies, and hardly any other picture. Very close: as near as most " +
      "such copies. Close: nearer than 95 of 100 random pictures. Far: all others. Point at a picture to read its " +
      "numbers.",
    cutOff:
      "Pictures beyond this distance are hidden. The distance says how much a picture differs from your search. " +
      "The mark on the slider is where similarity ends: beyond it, pictures are no nearer than 5 of 100 random ones.",
    fold:
      "Pictures that the model cannot tell apart have the same code. With this, only the first of them is shown, " +
      "and it says how many others there are.",
    label: "What is this?",
  },
};
