/** The texts of the page in the user's language. Modules import `words` and nothing else of the languages. */

import { setLanguage } from "./format.js";
import { words as english } from "./words_en.js";

/** @type {typeof english} */
export let words = english;

/** Languages beside English. words_de.js has the same names as words_en.js. */
const OTHERS = { de: () => import("./words_de.js") };

/**
 * Load the texts of the first language that the page has; else English. Called once, before anything is drawn.
 * @param {readonly string[]} wanted languages such as de-AT, the best one first
 */
export async function loadWords(wanted) {
  const known = wanted.map((tag) => tag.toLowerCase().split("-")[0]).find((name) => name === "en" || name in OTHERS);
  const language = known ?? "en";
  if (language !== "en") words = (await OTHERS[language]()).words;
  setLanguage(language);
  document.documentElement.lang = language;
}

/** Attributes of index.html that name a text, and what the text becomes. */
const PLACES = {
  "data-words": null, // the content
  "data-words-title": "title",
  "data-words-label": "aria-label",
  "data-words-placeholder": "placeholder",
  "data-words-alt": "alt",
};

/** Write the texts into the elements that name them, as in data-words="bar.pick". */
export function fillWords(/** @type {ParentNode} */ root) {
  for (const [place, attribute] of Object.entries(PLACES)) {
    for (const element of root.querySelectorAll(`[${place}]`)) {
      const text = textOf(element.getAttribute(place) ?? "");
      if (attribute) element.setAttribute(attribute, text);
      else element.replaceChildren(...marked(text));
    }
  }
}

/** The text of a name such as bar.pick. */
export const textOf = (/** @type {string} */ name) => {
  const [section, key] = name.split(".");
  return words[section][key];
};

/** The nodes of a text: `code` in backticks and *bold* are elements. */
export const marked = (/** @type {string} */ text) =>
  text.split(/(`[^`]+`|\*[^*`]+\*)/).map((part) => {
    const tag = { "`": "code", "*": "b" }[part[0]];
    if (!tag || part.length < 3) return part;
    const element = document.createElement(tag);
    element.textContent = part.slice(1, -1);
    return element;
  });
