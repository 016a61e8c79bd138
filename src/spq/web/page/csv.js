/** A table as CSV (RFC 4180), which spreadsheets and programs read. */

const RUNS = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/; // a spreadsheet runs a text that begins so

/**
 * @param {string[]} columns names, and keys of the rows
 * @param {Record<string, any>[]} rows
 * @returns {string} with a mark of UTF-8 at its start, without which Excel shows no umlauts
 */
export function toCSV(columns, rows) {
  const lines = [columns, ...rows.map((row) => columns.map((name) => row[name]))];
  return `\ufeff${lines.map((cells) => cells.map(toCell).join(",")).join("\r\n")}\r\n`;
}

/** A text that a spreadsheet would run as a formula begins with an apostrophe, as in the tables of the command line. */
function toCell(/** @type {any} */ value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = RUNS.test(value) && !Number.isFinite(Number(value)) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
