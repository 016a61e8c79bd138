// Which pictures a filter matches, with the meaning of spq.index.filter_sql.

const WORD_COLUMNS = ["path", "label"].map((name) => ({ name, own: false }));

/** Return the columns in a tree that the user has named. */
export function columnsOf(tree) {
  if (tree.word !== undefined) return [];
  if (tree.column) return [tree.column];
  return (tree.all ?? tree.any ?? [tree.not]).flatMap(columnsOf);
}

/** Return the columns that the words of a tree are looked for in. */
export function wordColumnsOf(tree) {
  if (tree.word !== undefined) return WORD_COLUMNS;
  return tree.column ? [] : (tree.all ?? tree.any ?? [tree.not]).flatMap(wordColumnsOf);
}

/**
 * Return (N) of 0 and 1: which rows match a tree.
 * @param valuesOf column -> (N) values: a number, a text, null, or an array of these. One matching value of an array is
 *   enough.
 */
export function evaluate(tree, valuesOf, N) {
  if (tree.word !== undefined) {
    const word = lowered(tree.word);
    const contains = (value) => value !== null && lowered(value).includes(word);
    const [paths, labels] = WORD_COLUMNS.map((column) => rows(valuesOf(column), contains, N));
    return paths.map((is, row) => is | labels[row]);
  }
  if (tree.column) {
    const fits = tree.values.map((value) => test(tree.operator, value));
    return rows(valuesOf(tree.column), (value) => fits.some((fit) => fit(value)), N);
  }
  if (tree.not) return evaluate(tree.not, valuesOf, N).map((is) => 1 - is);
  const [first, ...others] = (tree.all ?? tree.any).map((part) => evaluate(part, valuesOf, N));
  for (const other of others) {
    for (let row = 0; row < N; row++) first[row] = tree.all ? first[row] & other[row] : first[row] | other[row];
  }
  return first;
}

/** Return (N) of 0 and 1: which values are true, or have one that is. values: null if no picture has any. */
function rows(values, isTrue, N) {
  if (!values) return new Uint8Array(N);
  return Uint8Array.from({ length: N }, (_, row) => {
    const value = values[row];
    return Array.isArray(value) ? value.some(isTrue) : isTrue(value);
  });
}

const COMPARE = {
  "=": (a, b) => a === b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};

/** Return a test for a picture's value. A text that is not a number never matches a comparison with a number. */
function test(operator, value) {
  const compare = COMPARE[operator];
  if (value.begin !== undefined) {
    if (operator === "=") return (time) => time !== null && time >= value.begin && time < value.end;
    const edge = ["<", ">="].includes(operator) ? value.begin : value.end;
    const isBefore = operator.startsWith("<");
    return (time) => time !== null && time < edge === isBefore;
  }
  if (typeof value === "number") return (fact) => fact !== null && compare(numeric(fact), value);
  const text = composed(value);
  if (operator === "~") {
    const pattern = glob(text);
    return (fact) => fact !== null && Boolean(pattern?.test(composed(fact)));
  }
  if (operator === "=") return (fact) => fact !== null && composed(fact) === text;
  return (fact) => fact !== null && fact !== "" && compare(inOrder(composed(fact), text), 0);
}

/** Return a value as text whose accents are parts of their letters: a disk may store them in letters of their own. */
const composed = (fact) => String(fact).normalize("NFC");

/** The same without upper case, for words. */
const lowered = (fact) => composed(fact).toLowerCase();

/** Return the number of a value as SQLite reads it; NaN if it is not a number. */
function numeric(fact) {
  if (typeof fact === "number") return fact;
  return /^[ \t\n\v\f\r]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t\n\v\f\r]*$/.test(fact) ? Number(fact) : NaN;
}

/** Compare texts by characters. (JavaScript compares UTF-16 units.) Return a number below, equal to, or above 0. */
function inOrder(a, b) {
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at++;
  if (at === a.length || at === b.length) return a.length - b.length;
  if (at && /[\udc00-\udfff]/.test(a[at]) && /[\ud800-\udbff]/.test(a[at - 1])) at--;
  return a.codePointAt(at) - b.codePointAt(at);
}

/** Turn wildcards * ? [abc] [!abc] into a regular expression; null if a class is not closed, which matches nothing. */
export function glob(text) {
  const characters = [...text.replaceAll("[!", "[^")];
  let pattern = "";
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at];
    if (character === "*") pattern += "[^]*";
    else if (character === "?") pattern += "[^]";
    else if (character === "[") {
      const found = characterClass(characters, at + 1);
      if (!found) return null;
      [pattern, at] = [pattern + found.pattern, found.end];
    } else pattern += escaped(character);
  }
  return new RegExp(`^${pattern}$`, "u");
}

/** Parse a class from behind its [ to its ]. A - between two characters makes a range. */
function characterClass(characters, start) {
  /** @type {string?} */
  let before = null;
  let at = start,
    inside = "";
  const isNegated = characters[at] === "^";
  if (isNegated) at++;
  if (characters[at] === "]") [inside, at] = [escaped("]"), at + 1];
  for (; at < characters.length && characters[at] !== "]"; at++) {
    const next = characters[at + 1];
    if (characters[at] === "-" && before !== null && next !== undefined && next !== "]") {
      if (Number(before.codePointAt(0)) <= Number(next.codePointAt(0))) inside += `${escaped(before)}-${escaped(next)}`;
      [before, at] = [null, at + 1];
    } else {
      before = characters[at];
      inside += escaped(before);
    }
  }
  if (at === characters.length) return null;
  return { pattern: isNegated ? `[^${inside}]` : `[${inside}]`, end: at };
}

const escaped = (character) => `\\u{${character.codePointAt(0).toString(16)}}`;
