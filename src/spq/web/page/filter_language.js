/**
 * The filter language of a static site: parsed like spq.index.filter, with the meaning of spq.index.filter_sql, and
 * with the same error messages.
 */

import { FilterError, isReserved, tokensOf } from "./filter_tokens.js";

const NUMBERS = ["width", "height", "size"];
const BUILT_IN = ["path", ...NUMBERS, "time", "label"];
const MAX_DEPTH = 12,
  MAX_TERMS = 200;
const REMEDIES = { "[": "close it with ]", "!": "write != or not", '"': 'close it with "', "'": "close it with '" };
const NUMBER = /^[+-]?(?=\.?\d)(\d*)\.?(\d*)(?:[eE][+-]?\d{1,3})?$/;
const DATE = /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(Z|[+-]\d\d:\d\d)?)?)?)?$/;

/** The tree: {all: [...]}, {any: [...]}, {not: ...} or {column: {name, own, position}, operator, values}. */
export function parse(text) {
  return new Parser(text).whole();
}

/** Return the columns in a tree. */
export function columnsOf(tree) {
  if (tree.column) return [tree.column];
  return (tree.all ?? tree.any ?? [tree.not]).flatMap(columnsOf);
}

/**
 * Return (N) of 0 and 1: which rows match a tree.
 * @param valuesOf column -> (N) values: a number, a text, null, or an array of these. One matching value of an array is
 *   enough.
 */
export function evaluate(tree, valuesOf, N) {
  if (tree.column) {
    const values = valuesOf(tree.column);
    const fits = tree.values.map((value) => test(tree.operator, value));
    const isTrue = (value) => fits.some((fit) => fit(value));
    return Uint8Array.from({ length: N }, (_, row) => {
      const value = values[row];
      return Array.isArray(value) ? value.some(isTrue) : isTrue(value);
    });
  }
  if (tree.not) return evaluate(tree.not, valuesOf, N).map((is) => 1 - is);
  const [first, ...others] = (tree.all ?? tree.any).map((part) => evaluate(part, valuesOf, N));
  for (const other of others) {
    for (let row = 0; row < N; row++) first[row] = tree.all ? first[row] & other[row] : first[row] | other[row];
  }
  return first;
}

class Parser {
  constructor(text) {
    this.tokens = tokens(text);
    this.next = this.depth = this.terms = 0;
  }

  whole() {
    const tree = this.or();
    if (this.now.kind !== "end")
      throw this.unexpected("and, or, or the end; put quotes around a value of several words");
    return tree;
  }

  or() {
    const parts = [this.and()];
    while (this.took("or")) parts.push(this.and());
    return parts.length > 1 ? { any: parts } : parts[0];
  }

  and() {
    const parts = [this.not()];
    while (this.took("and")) parts.push(this.not());
    return parts.length > 1 ? { all: parts } : parts[0];
  }

  not() {
    if (++this.depth > MAX_DEPTH)
      throw new FilterError(`more than ${MAX_DEPTH} levels at ${this.now.position}; take some apart`);
    let tree;
    if (this.took("not")) tree = { not: this.not() };
    else if (this.took("(")) {
      tree = this.or();
      this.need(")");
    } else tree = this.comparison();
    this.depth--;
    return tree;
  }

  comparison() {
    const column = this.column();
    if (this.now.kind === "operator") {
      const operator = this.advance().text.replace("==", "=");
      const values = [this.value(column, operator)];
      return operator === "!=" ? { not: { column, operator: "=", values } } : { column, operator, values };
    }
    const isNegated = this.took("not");
    if (!this.took("in")) throw this.unexpected(isNegated ? "in (...)" : "one of = != < <= > >= ~ in");
    this.need("(");
    const values = [this.value(column, "=")];
    while (this.took(",")) values.push(this.value(column, "="));
    this.need(")");
    const tree = { column, operator: "=", values };
    return isNegated ? { not: tree } : tree;
  }

  column() {
    const { kind, text, position } = this.now;
    if (kind === "own") {
      this.advance();
      const name = text.slice(1, -1).replaceAll("]]", "]");
      return { name, own: name !== "label", position };
    }
    if (kind !== "word" || isReserved(text)) throw this.unexpected("a column, such as label or width");
    this.advance();
    return { name: text, own: !BUILT_IN.includes(text), position };
  }

  value(column, operator) {
    const { kind, text, position } = this.now;
    if (!["word", "quoted"].includes(kind) || (kind === "word" && isReserved(text))) {
      throw this.unexpected("a value; put quotes around a value that is not one word");
    }
    this.advance();
    if (++this.terms > MAX_TERMS) throw new FilterError(`more than ${MAX_TERMS} values at ${position}; ask for fewer`);
    const isBare = kind === "word";
    const plain = isBare ? text : text.slice(1, -1).replaceAll(text[0] + text[0], text[0]);
    return typed(column, operator, plain, isBare, position);
  }

  get now() {
    return this.tokens[this.next];
  }

  advance() {
    return this.tokens[this.next++];
  }

  took(text) {
    const found = ["mark", "word"].includes(this.now.kind) && this.now.text.toLowerCase() === text;
    if (found) this.next++;
    return found;
  }

  need(mark) {
    if (!this.took(mark)) throw this.unexpected(mark);
  }

  unexpected(wanted) {
    const there = this.now.kind === "end" ? "ends" : `has ${short(this.now.text)}`;
    return new FilterError(`${there} at ${this.now.position}; expected ${wanted}`);
  }
}

function tokens(text) {
  const found = [];
  let position = 1; // in characters, not in UTF-16 units
  for (const { kind, text: token } of tokensOf(text)) {
    if (kind === "open" || kind === "other") {
      const first = String.fromCodePoint(Number(token.codePointAt(0)));
      throw new FilterError(`lone ${first} at ${position}; ${REMEDIES[first] ?? "take it out"}`);
    }
    if (kind !== "space") found.push({ kind, text: token, position });
    position += [...token].length;
  }
  return [...found, { kind: "end", text: "", position }];
}

/** Return a value for comparisons with a column: a number, a text, or for `time` a period {begin, end} in seconds. */
function typed(column, operator, text, isBare, position) {
  const number = toNumber(text);
  if (column.own || ["path", "label"].includes(column.name))
    return isBare && operator !== "~" ? (number ?? text) : text;
  if (operator === "~")
    throw new FilterError(`~ before ${position} is for text; ${column.name} takes = != < <= > >= in`);
  if (column.name === "time") {
    const found = period(text);
    if (!found)
      throw new FilterError(`${short(text)} at ${position} is no date; write 2024-05-01 or '2024-05-01 12:00'`);
    return found;
  }
  if (number === null) {
    throw new FilterError(`${column.name} is a number, not ${short(text)} at ${position}; write ${column.name} >= 640`);
  }
  return number;
}

/** Return null if a text is not a number. More than 15 digits are a name. */
function toNumber(text) {
  const found = NUMBER.exec(text);
  if (!found || (found[1] + found[2]).length > 15) return null;
  const value = Number(text);
  return value === 0 || (Math.abs(value) > 1e-300 && Math.abs(value) < 1e300) ? value : null;
}

/** Return the first second of a date or time, and the first second after it; null if a text is neither. */
export function period(text) {
  const found = DATE.exec(text);
  if (!found) return null;
  const given = found
    .slice(1, 7)
    .filter((field) => field !== undefined)
    .map(Number);
  const fields = [...given, ...[0, 1, 1, 0, 0, 0].slice(given.length)];
  const offset = offsetOf(found[7]);
  const begin = moment(fields, offset);
  if (fields[0] < 1 || begin === null || Number.isNaN(offset)) return null;
  const after = [...fields];
  after[given.length - 1]++; // adds 1 to the last field that was given
  return { begin, end: moment(after, offset, false) };
}

/**
 * Return seconds since 1970, or null for an impossible date if `isChecked`.
 * @param offset of the time zone; null for local time.
 */
function moment(/** @type {number[]} */ [year, month, day, hour, minute, second], offset, isChecked = true) {
  const utc = new Date(0),
    local = new Date(0);
  utc.setUTCFullYear(year, month - 1, day);
  utc.setUTCHours(hour, minute, second, 0);
  const same = [utc.getUTCFullYear(), utc.getUTCMonth() + 1, utc.getUTCDate(), utc.getUTCHours(), utc.getUTCMinutes()];
  if (isChecked && (same.join() !== [year, month, day, hour, minute].join() || second > 59)) return null;
  if (offset !== null) return utc.getTime() / 1000 - offset;
  local.setFullYear(year, month - 1, day);
  local.setHours(hour, minute, second, 0);
  return local.getTime() / 1000;
}

/** Return seconds east of UTC; null without a zone, NaN for an invalid one. */
function offsetOf(zone) {
  if (zone === undefined) return null;
  if (zone === "Z") return 0;
  const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(4))];
  return hours > 23 || minutes > 59 ? NaN : (zone[0] === "-" ? -60 : 60) * (60 * hours + minutes);
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

function short(text) {
  const line = text.split(/\s+/).filter(Boolean).join(" ");
  return line.length <= 40 ? line : `${line.slice(0, 37)}...`;
}
