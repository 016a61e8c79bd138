/** Every text of the page in German. */

import { number, sizeText } from "./dom.js";

const groupsText = (groups) => (groups === 1 ? "1 Gruppe" : `${number(groups)} Gruppen`);

/** @type {typeof import("./words_en.js").words} */
export const words = {
  copies: {
    kinds: {
      identical: "Identische Dateien",
      "re-encoded": "Neu gespeichert oder verkleinert",
      edited: "Bearbeitet",
      almost: "Fast gleich",
      burst: "Kurz nacheinander aufgenommen",
      similar: "Nur ähnlich",
    },
    about: {
      identical: "Jedes Byte ist gleich.",
      "re-encoded": "Dasselbe Bild, neu gespeichert oder in anderer Größe. In voller Größe verglichen.",
      edited: "Dasselbe Bild, verändert: grau, beschnitten, gedreht, mit Rand oder Text. In voller Größe verglichen.",
      almost: "Keine Kopien: Eine Stelle ist anders, sie ist markiert.",
      burst: "Keine Kopien: von einer Kamera kurz nacheinander aufgenommen.",
      similar: "Verschiedene Bilder, die für das Modell ähnlich aussehen.",
    },
    unconfirmed: {
      almost: "keine Kopien: siehe die markierte Stelle",
      burst: "keine Kopien: kurz nacheinander aufgenommen",
      similar: "verschiedene Bilder, die ähnlich aussehen",
    },
    allKinds: () => "Alle",
    lead: () =>
      "Hier wird entschieden, welche Bilder einer Gruppe bleiben. spq löscht nichts: Am Ende steht eine Liste oder " +
      "ein Skript.",
    leadOfSite: () => "Gruppen von Kopien, wie sie beim Erstellen dieser Seite waren.",
    falseMatches: (share) => `Auch ${(100 * share).toPrecision(2)} % zufälliger Paare gelten als ähnlich.`,
    stale: () => "Die Sammlung hat sich seitdem geändert. Der Server erstellt einen neuen Bericht.",
    noReport: () => "Kein Bericht über Kopien",
    again: () => "Noch einmal",
    none: () => "Keine Kopien",
    noneText: (pictures) => `Alle ${number(pictures)} Bilder sind verschieden.`,
    noGroups: () => "Hier sind keine Gruppen",
    noGroupsText: () => "Keine Gruppe passt zum Filter und zur Auswahl oben.",
    allDone: (groups) => (groups === 1 ? "Die Gruppe ist entschieden" : `Alle ${number(groups)} Gruppen entschieden`),
    allDoneText: () =>
      "Jetzt die Liste speichern oder das Skript, das aussortierte Bilder in einen Papierkorb verschiebt.",
    stages: {
      "reading pictures": "Bilder lesen",
      "comparing codes": "Codes vergleichen",
      "comparing thumbs": "Kleine Bilder vergleichen",
      "laying thumbs together": "Kleine Bilder übereinanderlegen",
      "comparing at full size": "In voller Größe vergleichen",
      "reading dates": "Daten lesen",
      "calibrating on altered copies": "Messen, wie ähnlich Kopien sind",
    },
    working: ({ stage, done, total, step, steps, remaining }) => {
      const name = words.copies.stages[stage] ?? stage;
      const many = done < total ? `, ${number(done)} von ${number(total)}` : "";
      const left = remaining === null ? "" : `. ${words.copies.left(remaining)}`;
      return `Schritt ${step} von ${steps}: ${name}${many}${left}`;
    },
    left: (seconds) =>
      seconds < 90
        ? `Noch etwa ${Math.max(5, 5 * Math.round(seconds / 5))} s in diesem Schritt`
        : `Noch etwa ${number(Math.round(seconds / 60))} Minuten in diesem Schritt`,
    show: () => "Anzeigen",
    shown: { open: "offene", decided: "entschiedene", all: "alle Gruppen" },
    withSimilar: (groups) => `auch ${groupsText(groups)} mit nur ähnlichen Bildern`,
    progress: (decided, groups, size) =>
      `${number(decided)} von ${groupsText(groups)} entschieden, ${sizeText(size)} würden frei`,
    decidedGroups: () => "Entschiedene Gruppen",
    outdatedMany: (many) => `${number(many)} veraltet: Ein Bild hat sich seitdem geändert`,
    undo: () => "Rückgängig",
    undone: (many) => (many === 1 ? "1 Entscheidung rückgängig" : `${number(many)} Entscheidungen rückgängig`),
    notUndone: () => "Nichts rückgängig: Diese Gruppen wurden seitdem neu entschieden",
    others: (many) => `Ein anderer Tab hat ${groupsText(many)} entschieden`,
    overwritten: () => "Ein anderer Tab hatte diese Gruppe anders entschieden. Jetzt gilt diese Entscheidung.",
    notSaved: (why) => `Nicht gespeichert: ${why}`,
    why: (why) => (why ? `behalten: ${why}` : ""),
    original: () => "Vorschlag: behalten",
    suggested: () => "Vorschlag",
    decided: (dropped) => `Entschieden: ${number(dropped)} weg`,
    keptAll: () => "Entschieden: alle bleiben",
    apart: () => "Keine Duplikate",
    outdated: () => "Veraltet: Ein Bild hat sich seitdem geändert",
    accept: (dropped) => `Annehmen: ${number(dropped)} weg`,
    keepAll: () => "Alle behalten",
    noDuplicates: () => "Keine Duplikate",
    reopen: () => "Neu entscheiden",
    compare: () => "Vergleichen",
    keep: () => "Behalten",
    drop: () => "Weg",
    only: (n) => `Taste ${n} behält nur dieses Bild`,
    oneStays: () => "Ein Bild einer Gruppe bleibt.",
    stays: () => "bleibt: in einer anderen Gruppe behalten",
    top: () => "oberster Ordner",
    more: (many) => `und ${number(many)} weitere, nicht gezeigt`,
    said: (choice, dropped) =>
      choice === "apart" ? "Keine Duplikate" : dropped ? `${number(dropped)} weg` : "Alle behalten",
    close: () => "Schließen",
    rules: () => "Regeln",
    ruleFor: (kinds) =>
      `Für alle offenen Gruppen: ${kinds.join(", ")}. Eine Regel lässt nie ein Bild weg, das mehr zeigt als das behaltene.`,
    rule: {
      suggested: "Vorschläge annehmen",
      oldest: "Das älteste behalten",
      newest: "Das neueste behalten",
      largest: "Die größte Datei behalten",
      pixels: "Das mit den meisten Pixeln behalten",
      folder: "Behalten, was in diesem Ordner ist",
    },
    folder: () => "Ordner",
    folderOf: (folder, groups) => `${folder || "oberster Ordner"} (${groupsText(groups)})`,
    effect: ({ groups, open, pictures, bytes }) =>
      groups
        ? `Entscheidet ${number(groups)} von ${groupsText(open)}: ${number(pictures)} Bilder weg, ${sizeText(bytes)}.`
        : "Entscheidet keine Gruppe.",
    apply: (groups) => (groups ? `${groupsText(groups)} entscheiden` : "Entscheiden"),
    ruleDone: (groups) => `${groupsText(groups)} entschieden. Rückgängig nimmt alle zurück.`,
    save: () => "Speichern",
    saveWhat: (dropped, size) =>
      `${dropped === 1 ? "1 Bild" : `${number(dropped)} Bilder`} aussortiert, ${sizeText(size)}. Noch ist nichts verschoben.`,
    saveNothing: () => "Noch ist kein Bild aussortiert.",
    script: () => "Skript für einen Papierkorb",
    scriptText: () =>
      "Es verschiebt die aussortierten Bilder in einen Ordner neben der Sammlung und löscht nichts. Ohne --go sagt es " +
      "nur, was es tun würde. Ein Bild bleibt, wenn es oder das behaltene sich geändert hat.",
    saveScript: () => "Skript speichern",
    list: () => "Liste",
    listText: () => "Alle Gruppen mit den Entscheidungen, für Tabellen oder andere Programme.",
    saveList: () => "Als CSV speichern",
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
