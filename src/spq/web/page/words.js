/** The texts of the page in the user's language. Modules import `words` and nothing else of the languages. */

import { words as english } from "./words_en.js";

/** @type {typeof english} */
export let words = english;

const LANGUAGES = { de: () => import("./words_de.js") };

/** Load the texts of a language; English if there is no translation. Called once, before anything is drawn. */
export async function loadWords(language) {
  const load = LANGUAGES[language.split("-")[0]];
  words = load ? (await load()).words : english;
  document.documentElement.lang = load ? language.split("-")[0] : "en";
}
