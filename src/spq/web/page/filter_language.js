/**
 * The filter language of a static site, from text to a tree: parsed like spq.index.filter, with the same messages.
 */

import { BUILT_IN, FilterError, isReserved, short, tokensOf } from "./filter_tokens.js";

const MAX_DEPTH = 12,
  MAX_TERMS = 200,
  MAX_LENGTH = 5000;
const REMEDIES = {
  '"': ["is not closed", 'add another " at the end of the text'],
  "'": ["is not closed", "add another ' at the end of the text"],
  "[": ["is not closed", "add ] at the end of the name"],
  "!": ["has no meaning", "write != or not"],
};
const NUMBER = /^[+-]?(?=\.?\d)(\d*)\.?(\d*)(?:[eE][+-]?\d{1,3})?$/;
const DATE = /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(Z|[+-]\d\d:\d\d)?)?)?)?$/;

/**
 * The tree: {all: [...]}, {any: [...]}, {not: ...}, {word} or {column: {name, own, position}, operator, values}.
 * A word is true where the path or the label contains it.
 */
export function parse(text) {
  return new Parser(text).whole();
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
    } else tree = this.beginsComparison() ? this.comparison() : this.words();
    this.depth--;
    return tree;
  }

  /** Whether a column comes next, or what neither a column nor a word can be. */
  beginsComparison() {
    const following = this.tokens.slice(this.next + 1, this.next + 3).map(({ text }) => text.toLowerCase());
    const isCompared = this.tokens[Math.min(this.next + 1, this.tokens.length - 1)].kind === "operator";
    const isListed = following[0] === "in" || following.join(" ") === "not in";
    return !this.isText() || (this.now.kind === "word" && (isCompared || isListed));
  }

  /** Whether a word or a text in quotes comes next. */
  isText() {
    return this.now.kind === "quoted" || (this.now.kind === "word" && !isReserved(this.now.text));
  }

  words() {
    const parts = [this.word()];
    while (this.isText() && !this.beginsComparison()) parts.push(this.word());
    return parts.length > 1 ? { all: parts } : parts[0];
  }

  word() {
    const { content, isBare, position } = this.text();
    checkLength(content, position);
    if (isBare) checkWord(content, position);
    else if (!content) throw new FilterError(`no word in the quotes at ${position}; write one`);
    else if (this.now.kind === "operator") {
      const column = BUILT_IN.includes(content) ? content : `[${short(content)}]`;
      throw new FilterError(`a column at ${position} has quotes; write ${column}`);
    }
    return { word: content };
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
    if (kind !== "word" || isReserved(text)) throw this.unexpected("a word, or a column such as label or width");
    this.advance();
    return { name: text, own: !BUILT_IN.includes(text), position };
  }

  value(column, operator) {
    if (!this.isText()) throw this.unexpected("a value; put quotes around a value that is not one word");
    const { content, isBare, position } = this.text();
    return typed(column, operator, content, isBare, position);
  }

  /** Step over a word or a text in quotes. */
  text() {
    const { kind, text, position } = this.advance();
    if (++this.terms > MAX_TERMS) {
      const remedy = "use fewer, or mark these pictures in a metadata column";
      throw new FilterError(`more than ${MAX_TERMS} values at ${position}; ${remedy}`);
    }
    const isBare = kind === "word";
    const content = isBare ? text : text.slice(1, -1).replaceAll(text[0] + text[0], text[0]);
    return { content, isBare, position };
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
  const bad = [...text].findIndex((character) => character === "\0" || /^[\ud800-\udc7f]$/.test(character));
  if (bad >= 0) throw new FilterError(`the character at ${bad + 1} is in no path and no table; take it out`);
  let position = 1; // in characters, not in UTF-16 units
  for (const { kind, text: token } of tokensOf(text)) {
    if (kind === "open" || kind === "other") {
      const first = String.fromCodePoint(Number(token.codePointAt(0)));
      const [trouble, remedy] = REMEDIES[first] ?? ["has no meaning", "take it out"];
      throw new FilterError(`the ${first} at ${position} ${trouble}; ${remedy}`);
    }
    if (kind !== "space") found.push({ kind, text: token, position });
    position += [...token].length;
  }
  return [...found, { kind: "end", text: "", position }];
}

/** Refuse what was probably meant as a condition. */
function checkWord(word, position) {
  const [column] = word.split(":");
  if (BUILT_IN.includes(word)) {
    throw new FilterError(`${word} at ${position} is a column; write ${word} = value, or "${word}" for the word`);
  }
  if (BUILT_IN.includes(column)) {
    throw new FilterError(`${short(word)} at ${position} is no condition; write ${column} = value`);
  }
  if (word.includes("*")) throw new FilterError(`the word at ${position} has a wildcard; write path ~ ${short(word)}`);
}

function checkLength(text, position) {
  if ([...text].length <= MAX_LENGTH) return;
  const remedy = "give a shorter one, * matches any text";
  throw new FilterError(`more than 5,000 characters in the value at ${position}; ${remedy}`);
}

/** Return a value for comparisons with a column: a number, a text, or for `time` a period {begin, end} in seconds. */
function typed(column, operator, text, isBare, position) {
  checkLength(text, position);
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
