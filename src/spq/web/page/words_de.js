/** Every text of the page in German. */

import { number } from "./dom.js";

/** @type {typeof import("./words_en.js").words} */
export const words = {
  bands: {
    byCode:
      "Das gesuchte Bild ist nicht mehr lesbar. Verglichen wird sein Code; das ist ungenauer als das Bild selbst.",
    byCodeOnSite:
      "Auf dieser Seite werden Bilder der Sammlung über ihre Codes verglichen. Das ist ungenauer als die Bilder.",
    closeOnes: (n) => `${n === 1 ? "Eines ist" : `${number(n)} sind`} nah.`,
    distance: (text) => `Abstand ${text}.`,
    lessThan: (text) => `weniger als ${text}`,
    line: "Hier endet die Ähnlichkeit",
    lineMeaning: "Jenseits dieser Linie sind Bilder nicht näher als 5 von 100 zufälligen.",
    meaning: {
      file: "Gleiche Datei: alle Bytes sind die des gesuchten Bildes.",
      same: (copies, others) =>
        `Wahrscheinlich das gleiche Bild: So nah kommen ${copies} von 100 Kopien, die beschnitten, abgedunkelt, verkleinert ` +
        `oder neu gespeichert wurden. Aber ${others} von 100 Bildern haben ein anderes Bild, das so nah ist.`,
      veryClose: (copies, random) =>
        `Sehr nah: So nah kommen ${copies} von 100 veränderten Kopien und ${random} von 100 zufälligen Bildern.`,
      close: "Nah: So nah kommen nur 5 von 100 zufälligen Bildern.",
      far: "Fern: So nah kommen mehr als 5 von 100 zufälligen Bildern. Die Reihenfolge sagt wenig.",
    },
    names: { file: "gleiche Datei", same: "gleiches Bild", veryClose: "sehr nah", close: "nah", far: "fern" },
    nothingClose: "Nichts ist nah: Auch das erste Bild ist nicht näher als 5 von 100 zufälligen.",
    several: "Gesucht mit mehreren Bildern: Es zählt die Reihenfolge, Stufen wie „nah“ gibt es nicht.",
    short: {
      file: "die gleichen Bytes",
      same: "so nah wie veränderte Kopien und kaum ein anderes Bild",
      veryClose: "so nah wie die meisten veränderten Kopien; oft das gleiche Ding",
      close: "näher als 95 von 100 zufälligen Bildern",
      far: "so fern wie zufällige Bilder",
    },
    tie: (n, isMore) =>
      `${isMore ? "Mehr als " : ""}${number(n)} Bilder sind gleich nah: Ihre Codes sind gleich. Ihre Reihenfolge sagt nichts.`,
    tieMark: (n, isMore) => `${isMore ? "über " : ""}${number(n)} gleich nah`,
  },
  copies: {},
  cutOff: {
    any: "jeder Abstand",
    label: "Zeigen bis",
    line: "alles, was nah ist",
    title: "Blendet Bilder aus, die ferner sind. Die Marke zeigt, wo die Ähnlichkeit endet.",
    upTo: (text) => `bis ${text}`,
  },
  details: {},
  explore: {},
  lightbox: {},
  map: {},
  results: {},
  selection: {
    many: (n) => (n === 1 ? "1 Bild ausgewählt" : `${number(n)} Bilder ausgewählt`),
  },
  uploads: {},
};
