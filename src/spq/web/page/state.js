/**
 * The state of the page, in the address bar. Reload, back, forward and a shared link show the same view.
 *
 *     #like=17,u-4k2j&not=9&plus=3&box=10,10,80,60&where=width+>+640&max=1.5&at=400
 *     #view=map&map=0.1,0.2,3&lasso=…    #view=codewords&book=2&word=5    #view=copies&kind=edited
 *
 * Numbers are ids of items. `u-…` is an upload, which this browser keeps (uploads.js).
 */

export const VIEWS = ["pictures", "map", "codewords", "copies"];

/** @type {State} */
const EMPTY = {
  view: "pictures",
  like: [], // pictures to search for: ids and names of uploads
  not: [],
  plus: [], // marked, but not part of the search yet
  minus: [],
  box: null,
  where: "",
  max: null,
  fold: false,
  order: "",
  since: null,
  item: null, // the item in the details panel
  show: null, // the item in the lightbox
  against: null, // the picture that is compared with it: an id, or the name of an upload
  differ: false, // whether the lightbox shows their difference
  at: 0, // first visible picture
  map: null, // [x, y, zoom]
  layout: "", // how the points were placed that map and lasso belong to
  colour: "", // column that colours the points of the map
  find: null, // the item to move the map to
  lasso: null, // [x, y, x, y, ...]
  book: 0,
  word: null,
  kind: "",
  decided: "", // groups of copies that are shown: open ones, unless it is "decided" or "all"
};

const names = (text) =>
  text
    .split(",")
    .filter((name) => /^(\d{1,16}|u-[a-z0-9]+)$/.test(name))
    .map((name) => (/^\d/.test(name) ? Number(name) : name));
const numbers = (text) => text.split(",").map(Number).filter(Number.isFinite);
const whole = (text) => (/^\d{1,15}$/.test(text) ? Number(text) : null);
const real = (text) => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : null);
const exactly = (length) => (text) => (numbers(text).length === length ? numbers(text) : null);
const ids = (text) => names(text).filter((name) => typeof name === "number");

const READ = {
  view: (text) => (VIEWS.includes(text) ? text : "pictures"),
  like: names,
  not: names,
  plus: ids,
  minus: ids,
  box: exactly(4),
  where: (text) => text.slice(0, 4000),
  max: real,
  fold: (text) => text === "1",
  order: (text) => text,
  since: whole,
  item: whole,
  show: whole,
  against: (text) => names(text)[0] ?? null,
  differ: (text) => text === "1",
  at: (text) => whole(text) ?? 0,
  map: exactly(3),
  layout: (text) => (["pca", "neighbours"].includes(text) ? text : ""),
  colour: (text) => text.slice(0, 200),
  find: whole,
  lasso: (text) => (numbers(text).length >= 6 ? numbers(text) : null),
  book: (text) => whole(text) ?? 0,
  word: whole,
  kind: (text) => text,
  decided: (text) => (["decided", "all"].includes(text) ? text : ""),
};

/** @returns {State} */
export function parse(hash) {
  const params = new URLSearchParams(hash.replace(/^#/, ""));
  const state = structuredClone(EMPTY);
  for (const [name, read] of Object.entries(READ))
    if (params.has(name)) state[name] = read(params.get(name)) ?? EMPTY[name];
  return state;
}

export function toHash(state) {
  const params = new URLSearchParams();
  for (const [name, empty] of Object.entries(EMPTY)) {
    const value = state[name];
    const text = value === true ? "1" : Array.isArray(value) ? value.join(",") : String(value ?? "");
    if (text !== "" && value !== false && JSON.stringify(value) !== JSON.stringify(empty)) params.set(name, text);
  }
  return params.toString().replaceAll("%2C", ",");
}

export const state = parse(globalThis.location?.hash ?? "");

const listeners = new Set();

/** @param listener is called with a Set of the changed names. */
export function onChange(listener) {
  listeners.add(listener);
}

/**
 * Change the state and call all listeners.
 * @param how "push" adds a step for the back button, "replace" does not.
 */
export function change(changes, how = "push") {
  const before = toHash(state);
  const changed = assign({ ...state, ...changes });
  const now = toHash(state);
  if (now !== before) {
    const address = `${location.pathname}${location.search}${now ? `#${now}` : ""}`;
    history[how === "push" ? "pushState" : "replaceState"](null, "", address);
  }
  if (changed.size) for (const listener of listeners) listener(changed);
}

/** Change the state without a call of the listeners. */
export function remember(changes) {
  Object.assign(state, changes);
  const now = toHash(state);
  history.replaceState(null, "", `${location.pathname}${location.search}${now ? `#${now}` : ""}`);
}

/** The address of a state that differs from this one by `changes`. */
export const address = (changes) => `#${toHash({ ...state, ...changes })}`;

/** The changes for a new search: keep only the filter and `fold`. */
export const newSearch = (changes) => ({ ...structuredClone(EMPTY), where: state.where, fold: state.fold, ...changes });

function assign(next) {
  const changed = new Set();
  for (const name of Object.keys(EMPTY)) {
    if (JSON.stringify(next[name]) !== JSON.stringify(state[name])) changed.add(name);
  }
  Object.assign(state, next);
  return changed;
}

function follow() {
  const changed = assign(parse(location.hash));
  if (changed.size) for (const listener of listeners) listener(changed, true);
}

globalThis.addEventListener?.("popstate", follow);
globalThis.addEventListener?.("hashchange", follow);
