/** The texts of the page in the user's language. Modules import `words` and nothing else of the languages. */

import { setLanguage } from "./format.js";
import { words as english } from "./words_en.js";

/** Languages beside English. To add one, name it in theme.js and in the menu of index.html, too. */
const OTHERS = { de: () => import("./words_de.js") };

const language = globalThis.document?.documentElement.lang ?? "en"; // theme.js has chosen it
setLanguage(language);

/** @type {typeof english} */
export const words = language in OTHERS ? (await OTHERS[language]()).words : english;

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
