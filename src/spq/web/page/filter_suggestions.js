/** Suggestions for the next word of a filter, in the language of `spq search --where`. */

const TOKEN =
  /(?<operator>==|[<>!]=|[=<>~])|(?<mark>[(),])|(?<quoted>"(?:[^"]|"")*"?|'(?:[^']|'')*'?)|(?<own>\[(?:[^\]]|\]\])*\]?)|(?<word>[^\s()"',=!<>~[\]]+)|(?<space>\s+)|(?<other>.)/gsu;
const BARE = /^[^\s()"',=!<>~[\]]+$/u;
const RESERVED = ["and", "or", "not", "in"];
const COMPARE = { text: ["=", "!=", "~", "in"], number: [">=", "<=", "=", "!=", "<", ">"], time: [">=", "<", "="] };
const MEANING = {
  "=": "is",
  "!=": "is not",
  "~": "matches * and ?",
  in: "is one of",
  ">=": "at least",
  "<=": "at most",
  "<": "below",
  ">": "above",
};
const MOST = 12;

/** A value, in quotes if it needs them. */
export const quoted = (value) =>
  BARE.test(value) && !RESERVED.includes(value.toLowerCase()) ? value : `"${value.replaceAll('"', '""')}"`;

/**
 * @param columns as in api.status(): [{name, kind, values}].
 * @returns {start, end, options: [{insert, label, hint}]}: options to replace text[start:end].
 */
export function suggest(text, cursor, columns) {
  const tokens = [...text.slice(0, cursor).matchAll(TOKEN)];
  const last = tokens.at(-1);
  const isOpen =
    last && (last.groups.word || last.groups.quoted || last.groups.own) && last.index + last[0].length === cursor;
  const before = (isOpen ? tokens.slice(0, -1) : tokens).filter((token) => !token.groups.space);
  const typed = isOpen ? last[0] : "";
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
  for (const { groups, 0: token } of tokens) {
    const word = groups.word?.toLowerCase();
    if (expects === "column") {
      if (groups.mark || word === "not") continue;
      column = columns.find(({ name }) => name === token || name === `[${token}]`) ?? {
        name: token,
        kind: "text",
        values: [],
      };
      expects = "operator";
    } else if (expects === "operator") {
      if (groups.operator || word === "in") expects = "value";
    } else if (expects === "value") {
      if (!groups.mark) expects = "joint";
    } else if (token === ",") expects = "value";
    else if (word === "and" || word === "or") expects = "column";
  }
  return { expects, column };
}

const ofColumns = (columns) => columns.map(({ name, kind }) => ({ insert: `${name} `, label: name, hint: kind }));

const ofOperators = (_, column) =>
  (COMPARE[column.kind] ?? COMPARE.text).map((sign) => ({
    insert: sign === "in" ? "in (" : `${sign} `,
    label: sign,
    hint: MEANING[sign],
  }));

const ofValues = (_, column) =>
  (column.values ?? []).map((value) => ({ insert: `${quoted(value)} `, label: value, hint: "" }));

const ofJoints = () => [
  { insert: "and ", label: "and", hint: "both" },
  { insert: "or ", label: "or", hint: "one of them" },
];
