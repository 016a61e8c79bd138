/** Every text of the page in German. */

import { count, number, sizeText } from "./format.js";

const groupsText = (/** @type {number} */ n) => count(n, "Gruppe", "Gruppen");
const pictures = (/** @type {number} */ n) => count(n, "Bild", "Bilder");

const STAGES = {
  "reading pictures": "Bilder lesen",
  "comparing codes": "Codes vergleichen",
  "comparing thumbs": "Kleine Bilder vergleichen",
  "laying thumbs together": "Kleine Bilder übereinanderlegen",
  "comparing at full size": "In voller Größe vergleichen",
  "reading dates": "Daten lesen",
  "calibrating on altered copies": "Messen, wie ähnlich Kopien sind",
};

const leftText = (/** @type {number} */ seconds) =>
  seconds < 90
    ? `Noch etwa ${Math.max(5, 5 * Math.round(seconds / 5))} s in diesem Schritt`
    : `Noch etwa ${number(Math.round(seconds / 60))} Minuten in diesem Schritt`;

/** @type {typeof import("./words_en.js").words} */
export const words = {
  app: {
    like: (name) => `Wie ${name}`,
    search: "Suche",
  },
  api: {
    gone: "Der Server antwortet nicht.",
    incomplete: "Die Antwort des Servers ist unvollständig.",
    otherSite: (address) =>
      `Der Server kennt diese Adresse nicht. Bitte mit der Option --public-url ${address} starten.`,
    status: (status) => `Der Server antwortet mit ${status}`,
  },
  bands: {
    byCode:
      "Das gesuchte Bild ist nicht mehr lesbar. Verglichen wird sein Code; das ist ungenauer als das Bild selbst.",
    byCodeOnSite:
      "Auf dieser Seite werden Bilder der Sammlung über ihre Codes verglichen. Das ist ungenauer als die Bilder.",
    closeOnes: (/** @type {number} */ n) => `${n === 1 ? "Eines ist" : `${number(n)} sind`} nah.`,
    distance: (/** @type {string} */ text) => `Abstand ${text}.`,
    lessThan: (/** @type {string} */ text) => `weniger als ${text}`,
    line: "Fern ab hier",
    lineMeaning: "Hier endet die Ähnlichkeit: Jenseits der Linie sind Bilder nicht näher als 5 von 100 zufälligen.",
    meaning: {
      file: "Gleiche Datei: alle Bytes sind die des gesuchten Bildes.",
      same: (/** @type {string} */ copies, /** @type {string} */ others) =>
        `Wahrscheinlich das gleiche Bild: So nah kommen ${copies} von 100 Kopien, die beschnitten, abgedunkelt, ` +
        `verkleinert ` +
        `oder neu gespeichert wurden. Aber ${others} von 100 Bildern haben ein anderes Bild, das so nah ist.`,
      veryClose: (/** @type {string} */ copies, /** @type {string} */ random) =>
        `Sehr nah: So nah kommen ${copies} von 100 veränderten Kopien und ${random} von 100 zufälligen Bildern.`,
      close: "Nah: So nah kommen nur 5 von 100 zufälligen Bildern.",
      far: "Fern: So nah kommen mehr als 5 von 100 zufälligen Bildern. Die Reihenfolge sagt wenig.",
    },
    names: { file: "gleiche Datei", same: "gleiches Bild", veryClose: "sehr nah", close: "nah", far: "fern" },
    nothingClose: "Nichts ist nah: Auch das erste Bild ist nicht näher als 5 von 100 zufälligen.",
    several: "Gesucht mit mehreren Bildern: Es zählt die Reihenfolge, Stufen wie „nah“ gibt es nicht.",
    tie: (/** @type {number} */ n, /** @type {boolean} */ isMore) =>
      `${isMore ? "Mehr als " : ""}${number(n)} Bilder sind gleich nah: Ihre Codes sind gleich. Ihre Reihenfolge ` +
      `sagt nichts.`,
    tieMark: (/** @type {number} */ n, /** @type {boolean} */ isMore) =>
      `${isMore ? "über " : ""}${number(n)} gleich nah`,
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
    nothing: "Kein Bild passt zum Filter",
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
  copies: {
    comparing: "Vergleichen",
    groups: "Gruppen von Kopien",
    kindsOf: "Arten von Kopien",
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
    allKinds: "Alle",
    lead:
      "Hier wird entschieden, welche Bilder einer Gruppe bleiben. spq löscht nichts: Am Ende steht eine Liste oder " +
      "ein Skript.",
    visitors: "Entscheiden kann nur ein Browser auf dem Rechner des Servers, oder wer dessen Token hat.",
    leadOfSite: "Gruppen von Kopien, wie sie beim Erstellen dieser Seite waren.",
    falseMatches: (share) => `Auch ${(100 * share).toPrecision(2)} % zufälliger Paare gelten als ähnlich.`,
    stale: "Die Sammlung hat sich seitdem geändert. Der Server erstellt einen neuen Bericht: später neu laden.",
    noReport: "Kein Bericht über Kopien",
    again: "Noch einmal",
    none: "Keine Kopien",
    noneText: (pictures) => `Alle ${number(pictures)} Bilder sind verschieden.`,
    noGroups: "Hier sind keine Gruppen",
    noGroupsText: "Keine Gruppe passt zum Filter und zur Auswahl oben.",
    allDone: (groups) => (groups === 1 ? "Die Gruppe ist entschieden" : `Alle ${number(groups)} Gruppen entschieden`),
    allDoneText: "Jetzt die Liste speichern oder das Skript, das aussortierte Bilder in einen Papierkorb verschiebt.",
    working: ({ stage, done, total, step, steps, remaining }) => {
      const name = STAGES[stage] ?? stage;
      const many = done < total ? `, ${number(done)} von ${number(total)}` : "";
      const left = remaining === null ? "" : `. ${leftText(remaining)}`;
      return `Schritt ${step} von ${steps}: ${name}${many}${left}`;
    },
    show: "Anzeigen",
    shown: { open: "offene", decided: "entschiedene", all: "alle Gruppen" },
    withSimilar: (groups) => `auch ${groupsText(groups)} mit nur ähnlichen Bildern`,
    progress: (decided, groups, size) =>
      `${number(decided)} von ${groupsText(groups)} entschieden, ${sizeText(size)} würden frei`,
    decidedGroups: "Entschiedene Gruppen",
    outdatedMany: (many) => `${number(many)} veraltet: Ein Bild hat sich seitdem geändert`,
    undo: "Rückgängig",
    undone: (many) => (many === 1 ? "1 Entscheidung rückgängig" : `${number(many)} Entscheidungen rückgängig`),
    notUndone: "Nichts rückgängig: Diese Gruppen wurden seitdem neu entschieden",
    others: (many) => `Ein anderer Tab hat ${groupsText(many)} entschieden`,
    overwritten: "Ein anderer Tab hatte diese Gruppe anders entschieden. Jetzt gilt diese Entscheidung.",
    notSaved: (why) => `Nicht gespeichert: ${why}`,
    why: (why) => (why ? `behalten: ${why}` : ""),
    original: "Vorschlag: behalten",
    suggested: "Vorschlag",
    decided: (dropped) => `Entschieden: ${number(dropped)} weg`,
    keptAll: "Entschieden: alle bleiben",
    apart: "Keine Duplikate",
    outdated: "Veraltet: Ein Bild hat sich seitdem geändert",
    accept: (dropped) => `Annehmen: ${number(dropped)} weg`,
    keepAll: "Alle behalten",
    noDuplicates: "Keine Duplikate",
    reopen: "Neu entscheiden",
    compare: "Vergleichen",
    keep: "Behalten",
    drop: "Weg",
    only: (n) => `Taste ${n} behält nur dieses Bild`,
    oneStays: "Ein Bild einer Gruppe bleibt.",
    stays: "bleibt: in einer anderen Gruppe behalten",
    top: "oberster Ordner",
    more: (many) => `und ${number(many)} weitere, nicht gezeigt`,
    said: (choice, dropped) =>
      choice === "apart" ? "Keine Duplikate" : dropped ? `${number(dropped)} weg` : "Alle behalten",
    reasons: {
      "preferred by your pattern": "passt zum Muster",
      "a file, not a link": "eine Datei, kein Verweis",
      "the raw of a camera": "Rohdatei einer Kamera",
      "not edited": "nicht bearbeitet",
      "has the data of a camera (EXIF)": "hat Kameradaten (EXIF)",
      "most pixels": "die meisten Pixel",
      "most real pixels": "die meisten echten Pixel",
      "not blown up": "nicht vergrößert",
      "most bits of a pixel": "die meisten Bits je Pixel",
      "has a sidecar or a video beside it": "mit Begleitdatei oder Video",
      "has most data, such as place or keywords": "die meisten Angaben, etwa Ort oder Stichwörter",
      lossless: "verlustfrei",
      "largest file": "größte Datei",
      oldest: "das älteste",
      "in no linked folder": "in keinem verlinkten Ordner",
      "shortest path": "kürzester Pfad",
      "first by name": "der Name kommt zuerst",
      "the same bytes": "dieselben Bytes",
      "re-encoded": "neu gespeichert",
      resized: "andere Größe",
      cropped: "beschnitten",
      grey: "grau",
      brighter: "heller",
      darker: "dunkler",
      turned: "gedreht",
      mirrored: "gespiegelt",
      "border added": "mit Rand",
      "differs here": "hier verschieden",
    },
    close: "Schließen",
    rules: "Regeln",
    ruleFor: (kinds) =>
      `Für alle offenen Gruppen: ${kinds.join(", ")}. Eine Regel lässt nie ein Bild weg, das mehr zeigt als das ` +
      "behaltene.",
    rule: {
      suggested: "Vorschläge annehmen",
      oldest: "Das älteste behalten",
      newest: "Das neueste behalten",
      largest: "Die größte Datei behalten",
      pixels: "Das mit den meisten Pixeln behalten",
      folder: "Behalten, was in diesem Ordner ist",
    },
    folder: "Ordner",
    folderOf: (folder, groups) => `${folder || "oberster Ordner"} (${groupsText(groups)})`,
    effect: ({ groups, open, pictures, bytes }) =>
      groups
        ? `Entscheidet ${number(groups)} von ${groupsText(open)}: ${number(pictures)} Bilder weg, ${sizeText(bytes)}.`
        : "Entscheidet keine Gruppe.",
    apply: (groups) => (groups ? `${groupsText(groups)} entscheiden` : "Entscheiden"),
    ruleDone: (groups) => `${groupsText(groups)} entschieden. Rückgängig nimmt alle zurück.`,
    save: "Speichern",
    saveWhat: (dropped, size) => `${pictures(dropped)} aussortiert, ${sizeText(size)}. Noch ist nichts verschoben.`,
    saveNothing: "Noch ist kein Bild aussortiert.",
    script: "Skript für einen Papierkorb",
    scriptText:
      "Es verschiebt die aussortierten Bilder in einen Ordner neben der Sammlung und löscht nichts. Ohne --go sagt " +
      "es nur, was es tun würde. Ein Bild bleibt, wenn es oder das behaltene sich geändert hat.",
    saveScript: "Skript speichern",
    list: "Liste",
    listText: "Alle Gruppen mit den Entscheidungen, für Tabellen oder andere Programme.",
    saveList: "Als CSV speichern",
    place: (file) => `Die Entscheidungen liegen in ${file}`,
  },
  details: {
    add: "So wie dieses",
    avoid: "Nicht so wie dieses",
    cannotCopy: "Der Browser erlaubt das Kopieren nicht.",
    cannotShow: "Das Bild kann nicht gezeigt werden: Seine Datei wurde verschoben, oder der Server ist ausgelastet.",
    changed: "Geändert",
    close: "Einzelheiten schließen",
    codeword: (book, word) => `Codebuch ${book}, Codewort ${word}`,
    codewords: "Seine Codewörter, eines aus jedem Codebuch. Ein Klick zeigt die Bilder mit demselben Codewort.",
    copied: "Pfad kopiert",
    copy: "Pfad kopieren",
    download: "Herunterladen",
    enlarge: "Bild vergrößern",
    file: "Datei",
    folder: "Im Ordner zeigen",
    label: "Klasse",
    like: "Mehr davon",
    notFound: "Nicht gefunden",
    original: "Original öffnen",
    part: (book, distance, isNearest) => `Codebuch ${book}: ${distance}${isNearest ? ", das nächste Codewort" : ""}`,
    pixels: (width, height) => `${width} × ${height} Pixel`,
    reading: (distance, agreeing, books, isSigned) =>
      `Abstand ${distance}. In ${agreeing} von ${count(books, "Codebuch", "Codebüchern")} ist sein Codewort das ` +
      `nächste. ${isSigned ? "Balken unter null verringern den Abstand." : "Kürzere Balken heißen: ähnlicher."}`,
    sees: "Was das Modell sieht",
    shape: "Bild",
    size: "Größe",
    title: "Einzelheiten",
    why: "Warum es passt",
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
    control: "Strg",
    filter:
      "Wörter wie `rote schuhe` werden im Pfad und in der Beschriftung gesucht. Bedingungen sind genauer: " +
      "`label = shoes and (width >= 640 or path ~ summer/*)`. Beim Tippen erscheinen Spalten, Operatoren und Werte " +
      "als Vorschläge. `~` vergleicht mit Platzhaltern: `*` und `?`. Ein Datum hat die Form `2024-05`.",
    keyAll: "alles auswählen",
    keyAgain: "mit den Markierungen neu suchen",
    keyChoose: "ein Bild auswählen",
    keyDecide: "Kopien: annehmen, keine Duplikate, rückgängig",
    keyDetails: "Einzelheiten",
    keyEscape: "schließen, oder Auswahl aufheben",
    keyFilter: "Filter",
    keyGroups: "Kopien: nächste und vorige Gruppe",
    keyLike: "mehr davon",
    keyMark: "markieren; noch einmal: Markierung entfernen",
    keyMove: "von Bild zu Bild",
    keyOnly: "Kopien: in einer Gruppe nur dieses Bild behalten",
    keyRegion: "einen Ausschnitt des Bildes wählen",
    keySelect: "auswählen; ein Klick mit der Umschalttaste wählt einen Bereich",
    keyShow: "vergrößern",
    keyViews: "Bilder, Karte, Codewörter, Kopien",
    enlarged: "Vergrößert",
    map: "Karte",
    press: "Halten",
    space: "Leertaste",
    tap: "Antippen",
    touchMap: "ziehen verschiebt, zwei Finger vergrößern",
    touchSelect: "auswählen; danach weitere antippen",
    touchStage: "wischen: das nächste, nach unten: schließen; zwei Finger oder doppelt tippen: vergrößern",
    start:
      "Ein Bild hineinziehen, einfügen oder auswählen: so finden sich ähnliche. Ein Klick auf ein Bild zeigt mehr " +
      "davon. Bilder mit + (so wie dieses) oder − (nicht so wie dieses) markieren und dann neu suchen.",
    title: "Hilfe",
  },
  invite: {
    choose: "*Bild auswählen*, um ähnliche zu finden.",
    drop: "*Ein Bild hierher ziehen*, um ähnliche zu finden. Einfügen oder eine Datei auswählen geht auch.",
  },
  lightbox: {
    amplified: "Verstärkt",
    close: "Schließen (Esc)",
    compare: "Vergleichen (c)",
    compareWith: "Vergleichen mit",
    copied: "Kopiert",
    difference: "Unterschied (d)",
    different: (pixels, mean) => `${pixels} der Pixel sind verschieden, im Mittel um ${mean}`,
    fit: "Einpassen (0)",
    info: "Einzelheiten (i)",
    next: "Nächstes Bild",
    of: (position, total) => `${position} von ${total}`,
    previous: "Voriges Bild",
    query: "die Anfrage",
    same: "Kein Pixel ist verschieden",
    select: "Auswählen (x)",
    stage:
      "Bild. Plus und Minus vergrößern und verkleinern, 0 passt ein, Pfeile zeigen das nächste oder verschieben das " +
      "vergrößerte Bild.",
    stretched: "die Seitenverhältnisse sind verschieden, das zweite Bild ist gestreckt",
    title: "Bild",
    zoomIn: "Vergrößern (+)",
    zoomOut: "Verkleinern (−)",
  },
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
    numbers: "Abstände als Zahlen",
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
  results: {
    allDistances: "Alle Abstände zeigen",
    answers: "Bilder, die ähnlichsten zuerst",
    badFilter: "Der Filter ist ungültig",
    changed: (total) => count(total, "neues oder geändertes Bild", "neue oder geänderte Bilder"),
    empty: "Noch keine Bilder",
    emptyText: "Bilder mit spq index hinzufügen. Sie erscheinen dann hier.",
    errors: {
      busy: "Der Server ist ausgelastet",
      fault: "Etwas ist schiefgegangen",
      gone: "Der Server antwortet nicht",
      missing: "Nicht in dieser Sammlung",
      refused: "Damit lässt sich nicht suchen",
      token: "Diese Seite braucht ihr Token",
    },
    filtered: (total, all) => `${number(total)} von ${count(all, "Bild", "Bildern")}`,
    keepsTrying: "Die Seite versucht es weiter. Nichts geht verloren.",
    lost: "Dieses Bild ist nicht in diesem Browser",
    lostText: "Ein abgelegtes Bild bleibt im Browser. Zum Suchen bitte noch einmal hier ablegen.",
    moreThan: (total) => `mehr als ${number(total)} Bilder`,
    nearestFirst: (pictures, upTo) =>
      upTo ? `${pictures} (${upTo}), die nächsten zuerst` : `${pictures}, die nächsten zuerst`,
    noMatch: "Kein Bild passt zum Filter",
    noNew: "Keine neuen Bilder",
    noOthers: "Keine anderen Bilder",
    noOthersText: "Die Sammlung hat keine anderen Bilder.",
    noneUpTo: (distance) => `Kein Bild bis zum Abstand ${distance}`,
    pictures,
    showAll: "Alle Bilder zeigen",
  },
  search: {
    again: "Neu suchen",
    anyDistance: "jeder Abstand",
    changeRegion: "Ausschnitt ändern",
    clear: "Verwerfen",
    cutOff: "Zeigen bis",
    cutOffAtLine: "alles, was nah ist",
    fold: "Ein Bild pro Code",
    gone: "nicht mehr in diesem Browser",
    like: (name) => `wie ${name}`,
    markFirst: "Zuerst ein Bild mit + markieren",
    missing: "ein fehlendes Bild",
    notLike: (name) => `nicht wie ${name}`,
    region: "Ausschnitt",
    remove: (what) => `Entfernen: ${what}`,
    title: "Aktuelle Suche",
    upTo: (distance) => `bis ${distance}`,
  },
  selection: {
    all: "Alle auswählen",
    copied: (n) => (n === 1 ? "1 Pfad kopiert" : `${number(n)} Pfade kopiert`),
    csv: "CSV",
    gone: "Diese Bilder sind nicht mehr im Index.",
    like: "Mehr davon",
    many: (n) => (n ? `${number(n)} ausgewählt` : "Nichts ausgewählt"),
    most: (most, left) => `Höchstens ${number(most)} Bilder lassen sich auswählen; ${number(left)} weitere fehlen.`,
    none: "Auswahl aufheben (Esc)",
    paths: "Pfade kopieren",
    saved: (n) => (n === 1 ? "Tabelle mit 1 Bild gespeichert" : `Tabelle mit ${number(n)} Bildern gespeichert`),
    these: "Diese auswählen",
    title: "Ausgewählte Bilder",
    undo: "Rückgängig",
    zip: "Als ZIP laden",
    zipped: (n, size) => `ZIP mit ${n === 1 ? "1 Bild" : `${number(n)} Bildern`}, ${size}: Der Browser speichert es`,
  },
  tile: {
    details: "Einzelheiten",
    lost: "nicht lesbar",
    minus: "Nicht so wie dieses",
    plus: "So wie dieses",
    same: (more) => `+${number(more)} mit gleichem Code`,
    select: "Auswählen",
    show: "Vergrößern",
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
      "Das Modell beschreibt ein Bild mit wenigen Codewörtern, eines aus jedem Codebuch: ein kurzer Code statt " +
      "aller " +
      "Pixel. Bilder mit demselben Codewort ähneln sich in einer Hinsicht, zum Beispiel in Farbe oder Form. Einen " +
      "Namen dafür hat ein Codebuch nicht; die Bilder zeigen es.",
    bands:
      "Was die Wörter bedeuten, wurde mit Kopien der eigenen Bilder gemessen, die beschnitten, abgedunkelt, " +
      "verkleinert " +
      "und neu gespeichert wurden. Gleiches Bild: so nah wie solche Kopien und kaum ein anderes Bild. Sehr nah: " +
      "so nah wie " +
      "die meisten solcher Kopien. Nah: näher als 95 von 100 zufälligen Bildern. Fern: alle anderen. Die Zahlen " +
      "eines " +
      "Bildes stehen da, wo der Mauszeiger auf ihm ruht.",
    cutOff:
      "Bilder jenseits dieses Abstands sind ausgeblendet. Der Abstand sagt, wie sehr ein Bild von der Suche " +
      "abweicht. Die " +
      "Marke am Regler zeigt, wo die Ähnlichkeit endet: Jenseits davon sind Bilder nicht näher als 5 von 100 " +
      "zufälligen.",
    fold:
      "Bilder, die das Modell nicht unterscheiden kann, haben denselben Code. So ist nur das erste davon zu sehen, " +
      "mit der Zahl der übrigen.",
    label: "Was ist das?",
  },
};
