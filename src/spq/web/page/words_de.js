/** Every text of the page in German. */

import { number } from "./dom.js";

/** @type {typeof import("./words_en.js").words} */
export const words = {
  copies: {},
  details: {},
  explore: {},
  lightbox: {},
  map: {},
  results: {},
  selection: {
    many: (n) => (n === 1 ? "1 Bild ausgewählt" : `${number(n)} Bilder ausgewählt`),
  },
  uploads: {
    none: () =>
      "Ein Klick auf ein Bild zeigt ähnliche. Für die Suche mit eigenen Bildern muss die Seite mit onnxruntime-web " +
      "exportiert werden.",
    noPicture: (name) => (name ? `${name} ist kein Bild` : "Das ist kein Bild"),
    noPictures: () => "Keines davon ist ein Bild",
    pasted: () => "ein eingefügtes Bild",
    sending: (share) => `Das Bild wird gesendet: ${Math.floor(100 * share)} %`,
    sent: () => "Das Bild ist gesendet. Die Suche läuft.",
    tooMany: (most) => `Nur die ersten ${most} Bilder werden verwendet`,
  },
};
