/**
 * All that one looks at, in the address bar: reload, back, forward and a link sent to somebody give the same view.
 *
 *     #like=17,u-4k2j&not=9&plus=3&box=10,10,80,60&where=width+>+640&max=1.5&at=400
 *     #view=map&map=0.1,0.2,3&lasso=…    #view=codewords&book=2&word=5    #view=copies&kind=edited
 *
 * Ids are of items; `u-…` names a picture that was given, which this browser keeps (uploads.js).
 */

export const VIEWS = ["pictures", "map", "codewords", "copies"];

const EMPTY = {
  view: "pictures",
  like: [], // what is asked for: ids and names of uploads
  not: [],
  plus: [], // marked, not yet asked for
  minus: [],
  box: null,
  where: "",
  max: null,
  fold: false,
  order: "",
  since: null,
  item: null, // whose details are shown
  at: 0, // first picture in sight
  map: null, // [x, y, zoom]
  lasso: null, // [x, y, x, y, ...]
  book: 0,
  word: null,
  kind: "",
};

const names = (text) => text.split(",").filter((name) => /^(\d{1,16}|u-[a-z0-9]+)$/.test(name)).map((name) => (/^\d/.test(name) ? Number(name) : name));
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
  at: (text) => whole(text) ?? 0,
  map: exactly(3),
  lasso: (text) => (numbers(text).length >= 6 ? numbers(text) : null),
  book: (text) => whole(text) ?? 0,
  word: whole,
  kind: (text) => text,
};

export function parse(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const state = structuredClone(EMPTY);
  for (const [name, read] of Object.entries(READ)) if (given.has(name)) state[name] = read(given.get(name)) ?? EMPTY[name];
  return state;
}

export function written(state) {
  const given = new URLSearchParams();
  for (const [name, empty] of Object.entries(EMPTY)) {
    const value = state[name];
    const text = value === true ? "1" : Array.isArray(value) ? value.join(",") : String(value ?? "");
    if (text !== "" && value !== false && JSON.stringify(value) !== JSON.stringify(empty)) given.set(name, text);
  }
  return given.toString().replaceAll("%2C", ",");
}

export const state = parse(location.hash);

const listeners = new Set();

/** @param listener gets what has changed, as a Set of names. */
export function onChange(listener) {
  listeners.add(listener);
}

/**
 * Change the state and tell everyone.
 * @param how "push" makes a step for the back button, "replace" none.
 */
export function change(changes, how = "push") {
  const before = written(state);
  const changed = assign({ ...state, ...changes });
  const now = written(state);
  if (now !== before) {
    const address = `${location.pathname}${location.search}${now ? `#${now}` : ""}`;
    history[how === "push" ? "pushState" : "replaceState"](null, "", address);
  }
  if (changed.size) for (const listener of listeners) listener(changed);
}

/** Remember where one is, without telling anyone. */
export function note(changes) {
  Object.assign(state, changes);
  const now = written(state);
  history.replaceState(null, "", `${location.pathname}${location.search}${now ? `#${now}` : ""}`);
}

/** The address of a state that differs from this one by `changes`. */
export const address = (changes) => `#${written({ ...state, ...changes })}`;

/** What a new search starts with: all but the filter is forgotten. */
export const fresh = (changes) => ({ ...structuredClone(EMPTY), where: state.where, fold: state.fold, ...changes });

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

window.addEventListener("popstate", follow);
window.addEventListener("hashchange", follow);
