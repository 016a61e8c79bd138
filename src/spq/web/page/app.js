/** Connects the parts of the page. Each part listens to the state, and changes only the state. */

import { api } from "./api.js";
import { forgetItems, isSearching, loadItem } from "./search_request.js";
import { closeDetails, drawDetails, openDetails, startDetails } from "./details_panel.js";
import { $, $$, covered, fileName, number, toast } from "./dom.js";
import { drawFacets, startFacets } from "./facets_panel.js";
import { drawFilter, filterIsWrong, setColumns, startFilter } from "./filter.js";
import { startPictureInput } from "./picture_input.js";
import { startKeys } from "./keys.js";
import { Live } from "./live.js";
import { drawSearchBar, startSearchBar } from "./search_bar.js";
import { startLook } from "./look.js";
import { Results, showMessage } from "./results.js";
import { selectAll, startGestures } from "./select_gestures.js";
import { selectionIsOf, startSelectionBar } from "./selection_bar.js";
import { address, change, onChange, state, VIEWS } from "./state.js";
import { startTiles } from "./tile_events.js";
import { isUpload } from "./uploads.js";
import { loadStyle } from "./styles.js";
import { openView, views } from "./views.js";
import { startWhy } from "./why.js";
import { fillWords, words } from "./words.js";

const WITH_QUERY = ["like", "not", "plus", "minus", "box", "max", "view", "where", "fold"];
/** @type {Record<string, Set<string> | null>} changes of the state that a hidden view has not drawn yet */
const pending = Object.fromEntries(VIEWS.map((view) => [view, null]));

views.pictures = new Results({ status: () => live.status, filterError: filterIsWrong });
const live = new Live({ onStatus: showStatus, onBack: () => views[state.view]?.retry(), onChanged: reload });
const available = { pictures: true, map: api.can.map, codewords: api.can.codewords, copies: api.can.duplicates };

/** The name of the collection: the folder of its index. */
const collection = () => live.status?.name.replace(/\.index$/, "") || "spq";

/** @param status the newest api.status(). */
function showStatus(status) {
  $("#name").textContent = collection();
  $("#total").textContent = number(status.images);
  setColumns(status.columns ?? []);
  selectionIsOf(collection());
  title();
}

/** Load everything again, after the user asked to see changes of the collection. */
function reload() {
  forgetItems();
  import("./chosen_files.js").then(({ forgetChosen }) => forgetChosen());
  for (const view of VIEWS) pending[view] = null;
  if (views.copies) views.copies.report = null;
  views.map?.retry(true);
  views[state.view]?.retry(true);
}

function draw(changes, isBack) {
  if (!available[state.view]) state.view = "pictures";
  document.body.dataset.view = state.view;
  for (const view of VIEWS) {
    const root = $(`#${view}`);
    root.hidden = view !== state.view;
    if (view !== state.view) for (const name of changes ?? []) pending[view]?.add(name);
  }
  for (const link of $$("a[data-view]")) {
    const isHere = link.dataset.view === state.view;
    link.href = address({ view: link.dataset.view, item: null, word: null });
    link.toggleAttribute("aria-current", isHere);
    if (isHere) link.setAttribute("aria-current", "page");
    link.hidden = !available[link.dataset.view];
  }
  const isInviting = state.view === "pictures" && !isSearching() && !state.where && state.since === null;
  $("#invite").hidden = !isInviting;
  document.body.classList.toggle("searching", isSearching());
  drawFilter();
  if (changes?.has("where")) drawFacets();
  if (!changes || WITH_QUERY.some((name) => changes.has(name))) drawSearchBar();
  show(changes, isBack);
  if (
    !changes ||
    changes.has("item") ||
    (state.item !== null && [...changes].some((name) => ["like", "not", "plus", "minus", "box"].includes(name)))
  )
    drawDetails();
  if (changes?.has("show") || changes?.has("against") || changes?.has("differ") || state.show !== null)
    drawLightbox(isBack);
  title();
}

/** The lightbox is loaded when it is first used. */
async function drawLightbox(isBack) {
  const parts = await Promise.all([import("./lightbox.js"), loadStyle("lightbox.css")]).catch(() => null);
  if (parts) parts[0].drawLightbox({ grid, isBack });
  else {
    toast(words.api.gone);
    change({ show: null }, "replace"); // nothing is shown, so nothing has to be closed
  }
}

/** Draw the visible view, with the changes that it has not drawn yet. */
function show(changes, isBack) {
  const view = state.view;
  if (!views[view]) return load(view);
  const since = pending[view];
  pending[view] = new Set();
  if (!since || !changes) views[view].update(null, true);
  else {
    const all = new Set([...since, ...changes]);
    views[view].update(all, isBack || changes.has("view"));
    if (changes.has("view") && view === "pictures") views.pictures.grid.scrollTo(state.at);
  }
  return undefined;
}

/** Load the script of a view, and draw it if it is still wanted. */
async function load(view) {
  const message = $(`#${view}-message`);
  try {
    await openView(view);
  } catch (error) {
    const action = [words.common.tryAgain, () => location.reload()]; // all is in the address
    return showMessage(message, { title: words.api.gone, text: error.message, action, isError: true });
  }
  showMessage(message, null);
  views[view].moved = moved;
  return state.view === view && show(null, true);
}

/** Let the details follow a key that moves among pictures. */
const moved = (item) => item && state.item !== null && openDetails(item.id, true);

/** Let the user draw a region of the search picture. */
const chooseRegion = async () => (await import("./region.js")).chooseRegion();

let titled = 0; // counts the titles: that of an earlier state may be known later

async function title() {
  const turn = ++titled;
  let what = state.view === "pictures" ? "" : words.views[state.view];
  if (!what && state.like.length === 1 && !isUpload(state.like[0]))
    what = await loadItem(state.like[0]).then(
      (item) => words.app.like(fileName(item.path)),
      () => words.app.search,
    );
  else if (!what && isSearching()) what = words.app.search;
  if (turn !== titled) return;
  document.title = what ? `${what} – ${collection()}` : collection();
}

/** Remove the token from the address: the cookie replaces it, and links should not contain it. */
function hideToken() {
  const params = new URLSearchParams(location.search);
  if (!params.has("token")) return;
  params.delete("token");
  const rest = params.toString();
  history.replaceState(null, "", `${location.pathname}${rest ? `?${rest}` : ""}${location.hash}`);
}

/** Tell the style sheet the height of the top, for elements that are fixed below it. */
function watchTop() {
  const measure = () => document.documentElement.style.setProperty("--top", `${Math.round(covered())}px`);
  const watch = new ResizeObserver(measure);
  watch.observe($("#top"));
  watch.observe($(".bar"));
}

// the address of the link would be read as an empty state
$(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("#main").focus();
});
fillWords(document);
hideToken();
watchTop();
startPictureInput();
startSearchBar({ chooseRegion });
startFilter();
/** The grid of the visible view, if it shows pictures. */
const grid = () =>
  ({ pictures: views.pictures.grid, codewords: views.codewords?.grid, map: views.map?.list.grid })[state.view];
views.pictures.moved = moved;
startDetails(grid);
startTiles(grid);
startGestures(grid);
startSelectionBar({ selectAll: () => selectAll(grid()?.list) });
startLook();
startWhy();
startFacets();
startKeys({
  grid,
  chooseRegion,
  closeDetails,
});
onChange(draw);
draw(null, true);
live.check();
