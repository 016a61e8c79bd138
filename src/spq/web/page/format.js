/** Numbers, sizes and dates as the language of the page writes them. */

let language = "en";
const formats = new Map(); // options as JSON -> Intl.NumberFormat, which is slow to make

/** Called once, with the language of the texts. */
export function setLanguage(/** @type {string} */ chosen) {
  language = chosen;
  formats.clear();
}

/**
 * @param {number} value
 * @param {Intl.NumberFormatOptions} options
 */
export function formatted(value, options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(language, options));
  return formats.get(key).format(value);
}

export const number = (/** @type {number} */ value) => formatted(value, { maximumFractionDigits: 3 });

/**
 * @param {number} value
 * @param {string} one
 * @param {string} many
 */
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

/** A number with exactly so many digits behind the point. */
export const fixed = (/** @type {number} */ value, /** @type {number} */ digits) =>
  formatted(value, { minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: false });

/** A share of 1 in percent. */
export const percent = (/** @type {number} */ share, digits = 0) =>
  formatted(share, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A distance in few digits. */
export const distanceText = (/** @type {number} */ value) =>
  Number.isFinite(value) ? fixed(value, Math.abs(value) < 100 ? 2 : 0) : "–";

export function bytesText(/** @type {number} */ size) {
  if (size < 1000) return unit(size, "byte", "long", 0);
  return size < 1e6 ? unit(size / 1e3, "kilobyte", "short", 0) : unit(size / 1e6, "megabyte", "short", 1);
}

/** Bytes of many files. */
export const sizeText = (/** @type {number} */ size) => {
  if (size < 1e8) return bytesText(size);
  return size < 1e9 ? unit(size / 1e6, "megabyte", "short", 0) : unit(size / 1e9, "gigabyte", "short", 1);
};

/**
 * @param {number} value
 * @param {string} name
 * @param {"long" | "short"} unitDisplay
 * @param {number} digits
 */
const unit = (value, name, unitDisplay, digits) =>
  formatted(value, {
    style: "unit",
    unit: name,
    unitDisplay,
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });

export function dateText(/** @type {string} */ iso) {
  const date = new Date(iso);
  const locale = language === "en" ? "en-GB" : language; // 1 May 2024 is clear everywhere, 5/1/2024 is not
  return Number.isNaN(date.getTime()) ? "–" : date.toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });
}
