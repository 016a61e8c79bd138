/** Suggestions for the next word of a filter, in the language of `spq search --where`. */

import { quoted, tokensOf } from "./filter_tokens.js";
import { words } from "./words.js";

const COMPARE = { text: ["=", "!=", "~", "in"], number: [">=", "<=", "=", "!=", "<", ">"], time: [">=", "<", "="] };
const MOST = 12;

/**
 * The options to replace text[start:end].
 * @param {string} text
 * @param {number} cursor
 * @param {ColumnInfo[]} columns
 * @returns {{start: number, end: number, options: {insert: string, label: string, hint: string}[]}}
 */
export function suggest(text, cursor, columns) {
  const tokens = tokensOf(text.slice(0, cursor));
  const last = tokens.at(-1);
  const isOpen = last && ["word", "quoted", "own", "open"].includes(last.kind);
  const before = (isOpen ? tokens.slice(0, -1) : tokens).filter(({ kind }) => kind !== "space");
  const typed = isOpen ? last.text : "";
  const { expects, column } = expected(before, columns);
  const plain = typed.replace(/^["'[]/, "").toLowerCase();
  const all = OPTIONS[expects](columns, column);
  const fitting = bestOf(all, ({ label }) => label.toLowerCase(), plain);
  // a word may be the value of a column: "sho" suggests label = shoe
  const values = expects === "column" && plain.length > 1 ? ofAllValues(columns) : [];
  const options = [...fitting, ...bestOf(values, ({ value }) => value.toLowerCase(), plain)]
    .filter((option) => option.insert.trim() !== typed)
    .map(({ insert, label, hint }) => ({ insert, label, hint }));
  return { start: cursor - typed.length, end: cursor, options: options.slice(0, MOST) };
}

/** The options whose text starts with what is typed, or else those that contain it. */
function bestOf(options, textOf, typed) {
  const starts = options.filter((option) => textOf(option).startsWith(typed));
  return starts.length ? starts : options.filter((option) => textOf(option).includes(typed));
}

/** What may follow a sequence of tokens, and for which column. */
function expected(tokens, columns) {
  let expects = "column",
    column = null;
  for (const { kind, text: token } of tokens) {
    const word = kind === "word" ? token.toLowerCase() : null;
    if (expects === "column") {
      if (kind === "mark" || word === "not") continue;
      const known = columns.find(({ name }) => name === token || name === `[${token}]`);
      column = known ?? { name: token, kind: "text", values: [] };
      expects = known || kind === "own" ? "operator" : "joint"; // any other word is looked for in path and label
    } else if (expects === "operator" || kind === "operator" || word === "in") {
      if (kind === "operator" || word === "in") expects = "value";
    } else if (expects === "value") {
      if (kind !== "mark") expects = "joint";
    } else if (token === ",") expects = "value";
    else if (word === "and" || word === "or") expects = "column";
  }
  return { expects, column };
}

const ofColumns = (columns) =>
  columns.map(({ name, kind }) => ({ insert: `${name} `, label: name, hint: words.filter.kinds[kind] ?? kind }));

const ofOperators = (_, column) =>
  (COMPARE[column.kind] ?? COMPARE.text).map((sign) => ({
    insert: sign === "in" ? "in (" : `${sign} `,
    label: sign,
    hint: { ...words.filter.choices, ...words.filter.limits }[sign],
  }));

const ofValues = (_, column) =>
  (column.values ?? []).map((value) => ({ insert: `${quoted(value)} `, label: value, hint: "" }));

const ofJoints = () => [
  { insert: "and ", label: "and", hint: words.filter.and },
  { insert: "or ", label: "or", hint: words.filter.or },
];

const ofAllValues = (columns) =>
  columns.flatMap(({ name, values = [] }) =>
    values.map((value) => ({ value, insert: `${name} = ${quoted(value)} `, label: `${name} = ${value}`, hint: "" })),
  );

const OPTIONS = { column: ofColumns, operator: ofOperators, value: ofValues, joint: ofJoints };
