/** Every text of the page in German. */

import { number } from "./dom.js";

/** @type {typeof import("./words_en.js").words} */
export const words = {
  copies: {},
  details: {},
  explore: {
    computing: (_stage, done, total) =>
      `Alle Bilder werden verglichen${total ? `, ${Math.floor((100 * done) / total)} %` : ""}`,
    orders: {
      id: "Wie indiziert",
      path: "Nach Namen",
      time: "Neueste Dateien zuerst",
      new: "Zuletzt hinzugefügt zuerst",
      unusual: "Ungewöhnliche zuerst",
      random: "Zufällig",
    },
  },
  lightbox: {},
  map: {},
  results: {},
  selection: {
    many: (n) => (n === 1 ? "1 Bild ausgewählt" : `${number(n)} Bilder ausgewählt`),
  },
  uploads: {},
};
