/**
 * Bands: what a distance means in this collection, in words. Their limits are calibrated on altered copies of the
 * collection's own pictures, by the server or at the export of a site.
 */

import { api } from "./api.js";
import { distanceText, fixed } from "./format.js";
import { words } from "./words.js";

const AGAIN = 1500; // ms before bands that are not ready are asked for again; longer each time
const LONGEST = 15_000;

/** @type {Bands | null} */
let limits = null;
let asked = 0; // counts the questions; only the answer to the last one is used
let timer = 0;
const listeners = new Set();

/** @param {() => void} listener is called when the limits of the bands are known, or have changed. */
export const onBands = (listener) => listeners.add(listener);

/** Ask for the limits of the bands, once or again. */
export function loadBands(isAgain = false) {
  if (asked && !isAgain) return;
  clearTimeout(timer);
  ask(++asked, AGAIN);
}

async function ask(turn, wait) {
  const answer = await api.bands().catch(() => ({ state: "failed" }));
  if (turn !== asked) return;
  if ("bands" in answer) setBands(answer.bands);
  else timer = window.setTimeout(() => ask(turn, Math.min(1.5 * wait, LONGEST)), wait);
}

/** Use these limits. @param {Bands | null} found */
function setBands(found) {
  limits = found;
  for (const listener of listeners) listener();
}

/** The limits of distances that are measured from this; null if there are no bands for them. */
const reachOf = (/** @type {Compared} */ compared) => (limits && compared !== "several" ? limits[compared] : null);

/**
 * The band of a hit; null if there are no bands.
 * @param {Hit} hit
 * @param {Compared} compared
 */
export function bandOf(hit, compared) {
  if (hit.same_file) return "file";
  const reach = reachOf(compared);
  if (!limits || !reach) return null;
  if (limits.same !== null && hit.code_distance !== null && hit.code_distance <= limits.same) return "same";
  return bandAt(hit.distance, compared);
}

/** The band of a distance alone. */
export function bandAt(/** @type {number} */ distance, /** @type {Compared} */ compared) {
  const reach = reachOf(compared);
  if (!reach) return null;
  if (distance <= reach.very_close) return "veryClose";
  return distance <= reach.close ? "close" : "far";
}

/** The distance at which similarity ends; null if there are no bands. */
export const lineOf = (/** @type {Compared} */ compared) => reachOf(compared)?.close ?? null;

/** What a band means, in words, with its measured shares. */
export function meaning(/** @type {string} */ band, /** @type {Compared} */ compared) {
  const reach = reachOf(compared);
  if (band === "file" || !limits || !reach) return words.bands.meaning.file;
  if (band === "same") return words.bands.meaning.same(share(limits.same_copies), share(limits.same_others));
  if (band === "veryClose") return words.bands.meaning.veryClose(share(reach.copies), share(reach.random));
  return words.bands.meaning[band];
}

/** "Very close. Distance 3.98. …": what a picture's band says, for a tooltip. */
export function reading(/** @type {Hit} */ hit, /** @type {Compared} */ compared) {
  const band = bandOf(hit, compared);
  const distance = words.bands.distance(distanceText(hit.distance));
  return band ? `${meaning(band, compared)} ${distance}` : distance;
}

/** A share as a number of pictures in a hundred: "62", "4.7", "less than 0.1". */
function share(/** @type {number} */ value) {
  const percent = 100 * value;
  if (percent > 0 && percent < 0.1) return words.bands.lessThan(fixed(0.1, 1));
  return fixed(percent, percent === 0 || percent >= 9.95 ? 0 : 1);
}
