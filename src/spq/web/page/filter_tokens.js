/** The tokens of a filter, as spq.index.filter has them: for the suggestions of the page, and for a static site. */

/** Why a filter is refused. The user reads its message. */
export class FilterError extends Error {
  isRefusal = true;
}

/** Words of the language, which are no values without quotes. */
export const RESERVED = ["and", "or", "not", "in"];

/** Columns that every picture has, and the label. */
export const BUILT_IN = ["path", "width", "height", "size", "time", "label"];

const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // as in Python
const WORD = `[^${SPACE}()"',=!<>~[\\]]+`;
const KINDS = {
  operator: "==|[<>!]=|[=<>~]",
  mark: "[(),]",
  quoted: `"(?:[^"]|"")*"|'(?:[^']|'')*'`,
  space: `[${SPACE}]+`,
  own: "\\[(?:[^\\]]|\\]\\])+\\]",
  word: WORD,
  open: `"(?:[^"]|"")*$|'(?:[^']|'')*$|\\[(?:[^\\]]|\\]\\])*$`, // a quote or a bracket that is not closed
  other: ".",
};
const TOKEN = new RegExp(
  Object.entries(KINDS)
    .map(([kind, pattern]) => `(?<${kind}>${pattern})`)
    .join("|"),
  "gsu",
);
const BARE = new RegExp(`^${WORD}$`, "u");
const SPACES = new RegExp(`[${SPACE}]+`, "u");

/**
 * All tokens of a text, also those of no meaning. at: position in the text.
 * @param {string} text
 * @returns {{kind: string, text: string, at: number}[]}
 */
export function tokensOf(text) {
  return Array.from(text.matchAll(TOKEN), (match) => {
    const groups = match.groups ?? {};
    const kind = Object.keys(KINDS).find((name) => groups[name] !== undefined) ?? "other";
    return { kind, text: match[0], at: match.index };
  });
}

/** A text on one line of at most 40 characters, for an error. */
export function short(/** @type {string} */ text) {
  const line = [...text.split(SPACES).filter(Boolean).join(" ")];
  return line.length <= 40 ? line.join("") : `${line.slice(0, 37).join("")}...`;
}

export const isReserved = (/** @type {string} */ text) => RESERVED.includes(text.toLowerCase());

/** Whether a text needs neither quotes nor brackets. */
export const isPlain = (/** @type {string} */ text) => BARE.test(text) && !isReserved(text);

/** A value, in quotes if it needs them. */
export const quoted = (/** @type {string} */ value) => (isPlain(value) ? value : `"${value.replaceAll('"', '""')}"`);
