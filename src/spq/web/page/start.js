/** Loads the texts, and then the page. */

import { look } from "./tile.js";
import { fillWords, loadWords } from "./words.js";

await loadWords(look.language ? [look.language] : navigator.languages);
fillWords(document);
await import("./app.js");
