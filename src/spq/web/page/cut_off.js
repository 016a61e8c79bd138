/** The slider of the largest distance. It names the band of each distance, and marks where similarity ends. */

import { api } from "./api.js";
import { bandAt, lineOf, onBands } from "./bands.js";
import { $, debounce, distanceText } from "./dom.js";
import { isSearching, searchKey, searchRequest } from "./search_request.js";
import { change, state } from "./state.js";
import { words } from "./words.js";

const STEPS = 1000; // of the slider; the last one means any distance
const FAR = 2000; // rank of the picture at the end of the slider
const SNAP = 15; // steps around the line, which stand for the line
const slider = $("#cut-off");
/** @type {{low: number, high: number, compared: Compared}?} */
let scale = null; // distances at both ends of the slider, and what they are measured from
let measured = ""; // the search that `scale` belongs to, or will
let controller = new AbortController();

const cut = debounce(180, () => change({ max: sliderValue(), at: 0 }, "replace"));
slider.addEventListener("input", () => {
  write(sliderValue());
  cut();
});
onBands(() => drawCutOff());

/** Find the distances at both ends of the slider, once for each search. After a failure, the next call tries again. */
export async function measure(isChanged = false) {
  const key = searchKey();
  if (key === measured && !isChanged) return;
  controller.abort();
  const { signal } = (controller = new AbortController());
  measured = key;
  scale = null;
  if (!key) return;
  const found = await ends(signal).catch(() => undefined);
  if (signal.aborted) return;
  if (found === undefined) measured = "";
  if (!found) return;
  scale = found;
  slider.value = state.max === null ? STEPS : stepOf(state.max);
  drawCutOff();
}

/** The scale of the slider; null if nothing is found. */
async function ends(signal) {
  const question = await searchRequest();
  const probe = (offset) => api.search({ ...question, query: { ...question.query, top: 1, offset } }, signal);
  const nearest = await probe(0);
  if (!nearest.hits.length) return null;
  const rank = Math.min(nearest.total, FAR) - 1;
  const farthest = rank > 0 ? await probe(rank).then((answer) => answer.hits[0]) : null;
  const low = nearest.hits[0].distance;
  const high = farthest?.distance ?? low + 1; // there may be fewer hits with fold
  return { low, high: high > low ? high : low + 1, compared: nearest.compared };
}

/** Show the slider as the state has it. */
export function drawCutOff() {
  $("#cut").hidden = !isSearching() || !scale;
  write(state.max);
  const mark = $("#cut-line");
  const line = scale && lineOf(scale.compared);
  mark.hidden = !scale || line === null || line <= scale.low || line >= scale.high;
  if (!mark.hidden) mark.style.left = `${(100 * stepOf(line)) / STEPS}%`;
  mark.title = words.bands.lineMeaning;
}

/** The step of the slider for a distance. */
function stepOf(distance) {
  return scale ? Math.round((STEPS * (distance - scale.low)) / (scale.high - scale.low)) : STEPS;
}

function sliderValue() {
  const step = Number(slider.value);
  if (step >= STEPS || !scale) return null;
  const line = lineOf(scale.compared);
  if (line !== null && Math.abs(step - stepOf(line)) <= SNAP) return line;
  const value = scale.low + (step / STEPS) * (scale.high - scale.low);
  // the lowest step is rounded up, so that the nearest hit stays
  return step ? Number(value.toPrecision(5)) : Math.ceil(value * 1e4) / 1e4;
}

function write(max) {
  const text = cutOffText(max, scale?.compared ?? "several");
  $("#cut-off-text").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  if (!slider.matches(":active") && document.activeElement !== slider && scale) {
    slider.value = max === null ? STEPS : stepOf(max);
  }
}

/** "close, up to 7.20": a largest distance in words. */
export function cutOffText(/** @type {number | null} */ max, /** @type {Compared} */ compared) {
  if (max === null) return words.search.anyDistance;
  if (max === lineOf(compared)) return words.search.cutOffAtLine;
  const band = bandAt(max, compared);
  const upTo = words.search.upTo(distanceText(max));
  return band ? `${words.bands.names[band]}, ${upTo}` : upTo;
}
