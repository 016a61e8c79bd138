/** Every text of the page in German. */

import { count, number } from "./format.js";

const pictures = (/** @type {number} */ n) => count(n, "Bild", "Bilder");

/** @type {typeof import("./words_en.js").words} */
export const words = {
  app: {
    like: (name) => `Wie ${name}`,
    search: "Suche",
  },
  api: {
    gone: "Der Server antwortet nicht.",
    incomplete: "Die Antwort des Servers ist unvollständig.",
    status: (status) => `Der Server antwortet mit ${status}`,
  },
  bar: {
    home: "Alle Bilder",
    pick: "Mit einem Bild suchen",
    pickHow: "Ein Bild hineinziehen, einfügen oder auswählen (o)",
    skip: "Zu den Bildern",
    views: "Ansichten",
  },
  codewords: {
    all: "Alle Codewörter",
    book: (book) => `Codebuch ${book}`,
    books: "Codebücher",
    empty: "Ein Codewort zeigt die Bilder, die es verwenden.",
    emptyTitle: "Noch keine Bilder",
    failed: "Die Codewörter konnten nicht gelesen werden",
    oneFailed: "Dieses Codewort konnte nicht gelesen werden",
    pictures: "Bilder eines Codeworts",
    sorted: (book, used) =>
      `Codebuch ${book} teilt die Bilder in ${count(used, "Gruppe", "Gruppen")}. Bilder einer Gruppe sehen für das ` +
      "Codebuch ähnlich aus.",
    title: "Was das Modell sieht",
    unused: (idle) => `Nicht verwendet: ${count(idle, "Codewort", "Codewörter")}.`,
    word: (word) => `Codewort ${word}`,
    wordLabel: (word, many) => `Codewort ${word}, ${pictures(many)}`,
    wordText: (book, word, many) => `Codebuch ${book}, Codewort ${word}: ${pictures(many)}, die typischsten zuerst.`,
  },
  common: {
    picture: (id) => `Bild ${id}`,
    tryAgain: "Erneut versuchen",
  },
  copies: {},
  details: {
    title: "Einzelheiten",
  },
  drop: {
    like: "Auch so wie dieses",
    not: "Nicht so wie dieses",
    search: "Mit diesem suchen",
  },
  explore: {
    computing: (done, total) =>
      `Alle Bilder werden verglichen${total ? `, ${Math.floor((100 * done) / total)} %` : ""}`,
    orders: {
      id: "Wie indiziert",
      path: "Nach Namen",
      time: "Neueste Dateien zuerst",
      new: "Zuletzt hinzugefügt zuerst",
      unusual: "Ungewöhnliche zuerst",
      random: "Zufällig",
    },
    below: (high) => `unter ${high}`,
    between: (low, high) => `${low} bis ${high}`,
    columns: {
      label: "Beschriftung",
      folder: "Ordner",
      size: "Dateigröße",
      width: "Breite in Pixeln",
      height: "Höhe in Pixeln",
      time: "Geändert",
    },
    facets: "Eingrenzen",
    from: (low) => `ab ${low}`,
    moreValues: (many) => `${number(many)} weitere`,
    none: "ohne",
    reading: (done, total) => `Zählen${total ? `, ${Math.floor((100 * done) / total)} %` : ""}`,
    same: "Diese Bilder unterscheiden sich in nichts, wonach gewählt werden könnte.",
    shuffle: "Neu mischen",
    unlisted: (many) => `und ${number(many)} weitere Werte`,
  },
  filter: {
    and: "beides",
    choices: { "=": "ist", "!=": "ist nicht", "~": "passt zu * und ?", in: "ist eines von" },
    clear: "Filter entfernen",
    kinds: { text: "Text", number: "Zahl", time: "Zeit" },
    label: "Filter",
    limits: { ">=": "mindestens", "<=": "höchstens", "<": "unter", ">": "über" },
    or: "eines davon",
    placeholder: "Filter: Wörter, oder width >= 640",
    said: (error) => `Filter: ${error}`,
    suggestions: "Vorschläge",
  },
  help: {
    button: "Hilfe (?)",
    close: "Hilfe schließen",
    filter:
      "Wörter wie `rote schuhe` werden im Pfad und in der Beschriftung gesucht. Bedingungen sind genauer: " +
      "`label = shoes and (width >= 640 or path ~ summer/*)`. Beim Tippen erscheinen Spalten, Operatoren und Werte " +
      "als Vorschläge. `~` vergleicht mit Platzhaltern: `*` und `?`. Ein Datum hat die Form `2024-05`.",
    keyAgain: "mit den Markierungen neu suchen",
    keyChoose: "ein Bild auswählen",
    keyDetails: "Einzelheiten",
    keyEscape: "schließen, was obenauf liegt",
    keyFilter: "Filter",
    keyLike: "mehr davon",
    keyMark: "markieren; noch einmal: Markierung entfernen",
    keyMove: "von Bild zu Bild",
    keyRegion: "einen Ausschnitt des Bildes wählen",
    keyViews: "Bilder, Karte, Codewörter, Kopien",
    space: "Leertaste",
    start:
      "Ein Bild hineinziehen, einfügen oder auswählen: so finden sich ähnliche. Ein Klick auf ein Bild zeigt mehr " +
      "davon. Bilder mit + (so wie dieses) oder − (nicht so wie dieses) markieren und dann neu suchen.",
    title: "Hilfe",
  },
  invite: {
    choose: "*Bild auswählen*, um ähnliche zu finden.",
    drop: "*Ein Bild hierher ziehen*, um ähnliche zu finden. Einfügen oder eine Datei auswählen geht auch.",
  },
  lightbox: {},
  live: {
    back: "Der Server ist wieder da",
    behind: (error) => `Der Index ist nicht auf dem neuesten Stand: ${error}`,
    busy: "Der Server ist ausgelastet. Gleich folgt ein neuer Versuch.",
    changed: "Die Sammlung hat sich geändert",
    gone: "Der Server antwortet nicht. Weitere Versuche folgen.",
    looking: "Suche nach neuen Bildern",
    news: (many) => count(many, "neues Bild", "neue Bilder"),
    notNow: "Nicht jetzt",
    reading: (done, total) => `Neue Bilder werden gelesen: ${number(done)} von ${number(total)}`,
    reload: "Neu laden",
    show: "Zeigen",
    sync: "Abgleich",
    token: "Diese Seite braucht ihr Token: bitte mit der Adresse öffnen, die spq serve ausgegeben hat.",
    tryNow: "Jetzt versuchen",
    unreadable: (failed) => `, ${number(failed)} nicht lesbar`,
  },
  look: {
    contain: "Ganzes Bild",
    cover: "Quadrat füllen",
    dark: "Dunkel",
    language: "Sprache",
    light: "Hell",
    shape: "Form",
    size: "Bildgröße",
    system: "System",
    theme: "Farben",
    title: "Darstellung",
  },
  map: {
    all: pictures,
    answers: (many) => `die ${number(many)} nächsten`,
    closeList: "Liste schließen",
    inView: "Im Blick",
    inViewHow: "Auflisten, was zu sehen ist (Eingabetaste)",
    keys:
      "Karte der Sammlung. Pfeile bewegen sie, Plus und Minus vergrößern und verkleinern, 0 zeigt alles, die " +
      "Eingabetaste listet auf, was zu sehen ist.",
    lasso: "Lasso",
    lassoHow: "Bilder umfahren (l, oder mit der Umschalttaste ziehen)",
    likeThese: "Ähnliche wie diese",
    zoomFit: "Alles zeigen (0)",
    zoomIn: "Vergrößern (+)",
    zoomOut: "Verkleinern (−)",
    byColumn: (name) => `Farben: ${name}`,
    colour: "Was die Karte zeigt",
    density: "Dichte",
    empty: "Die Karte zeigt die ganze Sammlung auf einmal.",
    emptyTitle: "Noch keine Bilder",
    failed: "Die Karte konnte nicht gezeichnet werden",
    found: (many) => `${pictures(many)} im Lasso`,
    inLasso: "Bilder im Lasso",
    more: (many) => `und ${count(many, "weiteres Bild", "weitere Bilder")} hier`,
    noName: "ohne Namen",
    none: (where) => `Kein Bild der Karte passt zu ${where}.`,
    noneTitle: "Kein passendes Bild",
    notHere: "Dieses Bild ist nicht auf der Karte",
    others: "andere",
    part: (some, all) => `${number(some)} von ${pictures(all)}`,
    pictures: "Bilder",
    sample: (some, all) => `${some} von ${all}, eine zufällige Auswahl`,
    show: "Auf der Karte zeigen",
    arrange: "Ähnliche Bilder beieinander zeigen",
    arranging: {
      computing: ({ done, total }) => `Nach Nachbarn ordnen${total ? `, ${Math.floor((100 * done) / total)} %` : ""}`,
      missing: () => "Geordnet nach den größten Unterschieden. Für Nachbarschaften: pip install 'spq-retrieval[map]'",
      failed: () => "",
    },
  },
  pictures: {
    order: "Reihenfolge",
  },
  region: {
    cannotShow: "Der Browser kann dieses Bild nicht anzeigen",
    cancel: "Abbrechen",
    label: ([left, top, width, height]) =>
      `Ausschnitt von ${width} mal ${height} Pixeln, ${left} von links und ${top} von oben. ` +
      "Pfeiltasten verschieben ihn, mit der Umschalttaste ändern sie seine Größe.",
    picture: "Das Bild der Suche",
    search: "Suchen",
    text: ([left, top, width, height]) => `${width} × ${height} Pixel bei ${left}, ${top}`,
    title: "Mit einem Ausschnitt suchen",
    whole: "Ganzes Bild",
  },
  results: {},
  search: {
    again: "Neu suchen",
    clear: "Verwerfen",
    cutOff: "Größter Abstand",
    fold: "Ein Bild pro Code",
    region: "Ausschnitt",
    title: "Aktuelle Suche",
  },
  selection: {
    many: (n) => `${pictures(n)} ausgewählt`,
  },
  uploads: {
    none: () =>
      "Ein Klick auf ein Bild zeigt ähnliche. Für die Suche mit eigenen Bildern muss die Seite mit onnxruntime-web " +
      "exportiert werden.",
    noPicture: (name) => (name ? `${name} ist kein Bild` : "Das ist kein Bild"),
    noPictures: () => "Keines davon ist ein Bild",
    pasted: () => "ein eingefügtes Bild",
    progress: "Gesendet",
    sending: (share) => `Das Bild wird gesendet: ${Math.floor(100 * share)} %`,
    sent: () => "Das Bild ist gesendet. Die Suche läuft.",
    tooMany: (most) => `Nur die ersten ${most} Bilder werden verwendet`,
  },
  views: {
    codewords: "Codewörter",
    copies: "Kopien",
    map: "Karte",
    pictures: "Bilder",
  },
  why: {
    codeword:
      "Das Modell beschreibt ein Bild mit wenigen Codewörtern, eines aus jedem Codebuch: ein kurzer Code statt aller " +
      "Pixel. Bilder mit demselben Codewort ähneln sich in einer Hinsicht, zum Beispiel in Farbe oder Form. Einen " +
      "Namen dafür hat ein Codebuch nicht; die Bilder zeigen es.",
    cutOff:
      "Der Abstand sagt, wie sehr ein Bild von der Suche abweicht; 0 heißt: gar nicht. Bilder jenseits des größten " +
      "Abstands sind ausgeblendet.",
    fold:
      "Bilder, die das Modell nicht unterscheiden kann, haben denselben Code. So ist nur das erste davon zu sehen, " +
      "mit der Zahl der übrigen.",
    label: "Was ist das?",
  },
};
