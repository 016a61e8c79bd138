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
  const all = { column: ofColumns, operator: ofOperators, value: ofValues, joint: ofJoints }[expects](columns, column);
  const plain = typed.replace(/^["'[]/, "").toLowerCase();
  const starts = all.filter((option) => option.label.toLowerCase().startsWith(plain));
  const holds = all.filter((option) => option.label.toLowerCase().includes(plain));
  const options = (starts.length ? starts : holds).filter((option) => option.insert.trim() !== typed).slice(0, MOST);
  return { start: cursor - typed.length, end: cursor, options };
}

/** What may follow a sequence of tokens, and for which column. */
function expected(tokens, columns) {
  let expects = "column",
    column = null;
  for (const { kind, text: token } of tokens) {
    const word = kind === "word" ? token.toLowerCase() : null;
    if (expects === "column") {
      if (kind === "mark" || word === "not") continue;
      column = columns.find(({ name }) => name === token || name === `[${token}]`) ?? {
        name: token,
        kind: "text",
        values: [],
      };
      expects = "operator";
    } else if (expects === "operator") {
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
