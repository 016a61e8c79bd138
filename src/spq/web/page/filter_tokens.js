/** The tokens of a filter, as spq.index.filter has them: for the suggestions of the page, and for a static site. */

/** Why a filter is refused. The user reads its message. */
export class FilterError extends Error {
  isRefusal = true;
}

/** Words of the language, which are no values without quotes. */
export const RESERVED = ["and", "or", "not", "in"];

const WORD = /[^\s()"',=!<>~[\]]+/u;
const KINDS = {
  operator: /==|[<>!]=|[=<>~]/,
  mark: /[(),]/,
  quoted: /"(?:[^"]|"")*"|'(?:[^']|'')*'/,
  space: /\s+/,
  own: /\[(?:[^\]]|\]\])+\]/,
  word: WORD,
  open: /"(?:[^"]|"")*$|'(?:[^']|'')*$|\[(?:[^\]]|\]\])*$/, // a quote or a bracket that is not closed
  other: /./s,
};
const TOKEN = new RegExp(
  Object.entries(KINDS)
    .map(([kind, pattern]) => `(?<${kind}>${pattern.source})`)
    .join("|"),
  "gsu",
);
const BARE = new RegExp(`^${WORD.source}$`, "u");

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

export const isReserved = (/** @type {string} */ text) => RESERVED.includes(text.toLowerCase());

/** A value, in quotes if it needs them. */
export const quoted = (/** @type {string} */ value) =>
  BARE.test(value) && !isReserved(value) ? value : `"${value.replaceAll('"', '""')}"`;
