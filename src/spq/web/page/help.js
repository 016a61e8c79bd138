/** The help, made when it is first opened. A touch screen gets its own: no keys. */

import { el, icon } from "./dom.js";
import { loadStyle } from "./styles.js";
import { marked, words } from "./words.js";

/** Names of texts in words.help, and keys: a text stands for itself where a key has a name. */
/** @type {[string[], string][]} */
const TOUCHES = [
  [["tap"], "keyLike"],
  [["press"], "touchSelect"],
  [["+", "−"], "keyMark"],
  [["i"], "keyDetails"],
  [["enlarged"], "touchStage"],
  [["map"], "touchMap"],
];
/** @type {[string[], string][]} */
const KEYS = [
  [["o"], "keyChoose"],
  [["/"], "keyFilter"],
  [["←", "↑", "↓", "→"], "keyMove"],
  [["Enter"], "keyLike"],
  [["+", "−"], "keyMark"],
  [["s"], "keyAgain"],
  [["space"], "keyShow"],
  [["i"], "keyDetails"],
  [["x"], "keySelect"],
  [["control", "A"], "keyAll"],
  [["b"], "keyRegion"],
  [["1", "–", "4"], "keyViews"],
  [["j", "k"], "keyGroups"],
  [["Enter", "n", "u"], "keyDecide"],
  [["1", "–", "9"], "keyOnly"],
  [["Esc"], "keyEscape"],
];

/** @type {any} */
let dialog = null;

export async function showHelp() {
  await loadStyle("help.css");
  if (!dialog) document.body.append((dialog = make()));
  dialog.showModal();
}

function make() {
  const close = el("button", { class: "icon-button", "aria-label": words.help.close }, icon("close"));
  return el(
    "dialog",
    { id: "help", "aria-labelledby": "help-title" },
    el("form", { method: "dialog" }, el("h2", { id: "help-title", text: words.help.title }), close),
    el("p", {}, marked(words.help.start)),
    el("dl", { class: "keys touches by-hand" }, TOUCHES.map(touch)),
    el("dl", { class: "keys by-mouse" }, KEYS.map(keys)),
    el("h3", { text: words.filter.label }),
    el("p", {}, marked(words.help.filter)),
  );
}

const line = (marks, text) => el("div", {}, el("dt", {}, marks), el("dd", { text: words.help[text] }));

const key = (name) => el("kbd", { text: words.help[name] ?? name });

/** A touch: its name, or the buttons to press. */
const touch = ([names, text]) =>
  line(
    names.map((name) => words.help[name] ?? [key(name), " "]),
    text,
  );

/** Keys. A dash between two of them stands for those between. */
const keys = ([names, text]) =>
  line(
    names.map((name) => [name === "–" ? name : key(name), " "]),
    text,
  );
