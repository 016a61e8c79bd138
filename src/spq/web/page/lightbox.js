/** The lightbox: one picture as large as the window, or two beside each other. It is loaded when it is first used. */

import { api } from "./api.js";
import { pathOf } from "./chosen_files.js";
import { showFolder } from "./details.js";
import { areShapesDifferent, measureDifference, paintDifference, sizeToCompare } from "./difference.js";
import { $, altText, bytesText, copyText, el, fileName, icon, iconButton, number, redraw } from "./dom.js";
import { FIRST, firstSource, Stage } from "./lightbox_stage.js";
import { loadItem } from "./search_request.js";
import { selection } from "./selection.js";
import { change, newSearch, state } from "./state.js";
import { find, isUpload } from "./uploads.js";
import { words } from "./words.js";
import { Zoom } from "./zoom.js";

const NONE = { show: null, against: null, differ: false };
const STEP = 80; // pixels that an arrow key moves a picture
const OFFERED = 24; // pictures to compare with
const GAIN = 4; // of the difference
const HEAVY = 30e6; // bytes; the difference of larger files is that of their thumbnails
const dialog = $("#lightbox");
const zoom = new Zoom();
/** @type {any} */
let parts = null; // elements, made at the first use
let findGrid = /** @type {() => any} */ (() => null);
let isPushed = false; // whether Back closes it
let drawn = ""; // what is shown
let turn = 0;
/** @type {any} */
let opened = null; // {id, opener}
/** @type {{list: any, at: number, id: number} | null} */
let place = null; // of the picture among the results
/** @type {any} */
let pair = null; // pixels of two pictures, while their difference is shown

/** Draw what the state says: nothing, a picture, two pictures, or their difference. */
export async function drawLightbox({ grid, isBack }) {
  findGrid = grid;
  if (state.show === null) return close();
  parts ??= build();
  if (!dialog.open) {
    isPushed = !isBack;
    opened = { id: state.show, opener: document.activeElement };
    dialog.showModal();
    parts.frame.focus();
  }
  locate();
  drawTools();
  const key = JSON.stringify([state.show, state.against, state.differ]);
  if (key === drawn) return undefined;
  const before = drawn ? JSON.parse(drawn).slice(0, 2) : [];
  if (state.against === null || !before.includes(state.against)) zoom.fit();
  drawn = key;
  return load(++turn);
}

function build() {
  const listeners = {
    moved: () => drawStages(),
    swiped: (x, y) => (x ? step(-x) : y > 0 && askToClose()),
    failed: (stage) => stage.root.classList.add("lost"),
  };
  const left = new Stage(zoom, listeners);
  const right = new Stage(zoom, listeners);
  const tool = (name, label, run, attributes = {}) =>
    iconButton(name, label, run, { "data-tool": name, ...attributes });
  const tools = [
    tool("check", words.lightbox.select, toggleSelected, { "aria-pressed": "false" }),
    tool("like", words.details.like, () => change(newSearch({ like: [state.show] }))),
    tool("compare", words.lightbox.compare, toggleCompare, { "aria-pressed": "false" }),
    tool("differ", words.lightbox.difference, toggleDifference, { "aria-pressed": "false" }),
    tool("minus", words.lightbox.zoomOut, () => zoomBy(1 / 1.5)),
    tool("plus", words.lightbox.zoomIn, () => zoomBy(1.5)),
    tool("fit", words.lightbox.fit, fit),
    el(
      "a",
      { class: "icon-button", "data-tool": "download", title: words.details.download, download: "" },
      icon("download"),
    ),
    tool("info", words.lightbox.info, toDetails),
    tool("close", words.lightbox.close, askToClose),
  ];
  tools[7].setAttribute("aria-label", words.details.download);
  const made = {
    left,
    right,
    title: el("h2", { id: "lightbox-title" }),
    count: el("p", {}),
    tools: el("div", { class: "box-tools" }, tools),
    leftCaption: el("figcaption", {}),
    rightCaption: el("figcaption", {}),
    previous: tool("previous", words.lightbox.previous, () => step(-1)),
    next: tool("next", words.lightbox.next, () => step(1)),
    others: el("div", { class: "others", role: "group", "aria-label": words.lightbox.compareWith }),
    difference: differenceTools(),
    file: el("div", { class: "file" }),
    said: el("p", { class: "unseen", role: "status" }),
    frame: el("div", { class: "frame", tabindex: "0", role: "application", "aria-label": words.lightbox.stage }),
  };
  made.leftFigure = el("figure", {}, left.root, made.leftCaption);
  made.frame.append(made.leftFigure, el("figure", {}, right.root, made.rightCaption));
  dialog.setAttribute("aria-labelledby", "lightbox-title");
  dialog.replaceChildren(
    el("header", {}, el("div", { class: "titles" }, made.title, made.count), made.tools),
    el("div", { class: "middle" }, made.frame, made.previous, made.next),
    el("footer", {}, made.others, made.difference, made.file, made.said),
  );
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    askToClose();
  });
  document.addEventListener("keydown", (event) => dialog.open && onKey(event));
  document.addEventListener("listed", relocate);
  return made;
}

function differenceTools() {
  const gain = el("input", { id: "gain", type: "range", min: "1", max: "32", value: String(GAIN) });
  gain.addEventListener("input", paint);
  return el(
    "div",
    { class: "difference", hidden: true },
    el("span", { class: "names muted" }),
    el("label", { class: "range" }, el("span", { text: words.lightbox.amplified }), gain),
    el("output", {}),
  );
}

async function load(now) {
  const isPair = state.against !== null;
  const isDifference = isPair && state.differ;
  dialog.classList.toggle("pair", isPair && !isDifference);
  parts.leftFigure.hidden = !isPair || isDifference;
  parts.difference.hidden = !isDifference;
  parts.left.most = parts.right.most = isPair ? Number.POSITIVE_INFINITY : 0;
  pair = null;
  drawOthers();
  const [here, other] = await Promise.all([pictureOf(state.show), isPair ? pictureOf(state.against) : null]);
  if (now !== turn) return;
  drawFile(here);
  parts.rightCaption.textContent = captionOf(here);
  parts.leftCaption.textContent = other ? captionOf(other) : "";
  if (isDifference) await compare(other, here, now);
  else {
    parts.right.show(here);
    if (other) parts.left.show(other);
  }
  drawStages();
  preload();
}

/** What the stages need to know of an item or an upload. */
async function pictureOf(/** @type {Name | null} */ name) {
  if (isUpload(name)) {
    const upload = await find(name);
    return { thumb: upload?.url ?? "", full: null, width: 0, height: 0, alt: upload?.title ?? "", item: null };
  }
  const item = await loadItem(Number(name)).catch(() => null);
  return {
    ...sourcesOf(Number(name)),
    width: item?.width ?? 0,
    height: item?.height ?? 0,
    alt: item ? altText(item) : words.lightbox.title,
    item,
  };
}

const sourcesOf = (/** @type {number} */ id) => ({
  thumb: api.thumbnailURL(id, FIRST),
  full: api.can.original ? api.imageURL(id) : null,
});

const captionOf = ({ item, alt }) =>
  [
    item ? fileName(item.path) : alt,
    item?.width ? `${number(item.width)} × ${number(item.height)}` : "",
    item?.size ? bytesText(item.size) : "",
  ]
    .filter(Boolean)
    .join(" · ");

/** Load the pixels of both pictures at one size, and show how they differ. */
async function compare(a, b, now) {
  const images = await Promise.all([a, b].map(pixelsOf)).catch(() => null);
  if (now !== turn) return;
  if (!images) {
    parts.right.show(b);
    parts.right.root.classList.add("lost");
    return;
  }
  const sizes = images.map(({ naturalWidth: width, naturalHeight: height }) => ({ width, height }));
  const size = sizeToCompare(sizes[0], sizes[1]);
  const [first, second] = images.map((image) => dataOf(image, size));
  pair = { a: first, b: second, canvas: Object.assign(document.createElement("canvas"), size) };
  const { pixels, mean } = measureDifference(first.data, second.data);
  const percent = (share) => `${number(Number((100 * share).toPrecision(2)))} %`;
  const text = pixels ? words.lightbox.different(percent(pixels), percent(mean)) : words.lightbox.same;
  const names = [a, b].map(({ item, alt }) => (item ? fileName(item.path) : alt));
  const note = areShapesDifferent(sizes[0], sizes[1]) ? `; ${words.lightbox.stretched(names[1])}` : "";
  $("output", parts.difference).textContent = text + note;
  $(".names", parts.difference).textContent = words.lightbox.between(names[0], names[1]);
  parts.right.showCanvas(pair.canvas);
  paint();
}

async function pixelsOf({ full, thumb, item }) {
  const image = new Image();
  image.src = full && item?.size < HEAVY ? full : thumb;
  await image.decode();
  return image;
}

function dataOf(image, { width, height }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

function paint() {
  if (!pair) return;
  const { a, b, canvas } = pair;
  const out = new ImageData(canvas.width, canvas.height);
  paintDifference(a.data, b.data, out.data, Number($("#gain").value));
  canvas.getContext("2d").putImageData(out, 0, 0);
}

function drawStages() {
  parts.left.draw();
  parts.right.draw();
}

/** Find the place of the picture among the results. */
function locate() {
  const list = findGrid()?.list;
  if (place?.list !== list || place?.id !== state.show) {
    const at = list ? list.find(state.show) : -1;
    place = at >= 0 ? { list, at, id: /** @type {number} */ (state.show) } : null;
  }
}

/** A picture that an address opens is shown before the results that it is one of. */
function relocate() {
  if (!dialog.open || place) return;
  locate();
  if (!place) return;
  drawTools();
  preload();
}

function drawTools() {
  const pressed = (name, is) => $(`[data-tool=${name}]`, parts.tools).setAttribute("aria-pressed", is);
  pressed("check", selection.has(Number(state.show)));
  pressed("compare", state.against !== null && !state.differ);
  pressed("differ", state.against !== null && state.differ);
  const download = $("[data-tool=download]", parts.tools);
  download.hidden = !api.can.original;
  download.href = api.downloadURL(Number(state.show));
  const path = place?.list.get(place.at)?.path;
  if (path) parts.title.textContent = fileName(path);
  const total = place?.list.isExact ? place.list.total : null;
  parts.count.textContent = place && total ? words.lightbox.of(number(place.at + 1), number(total)) : "";
  parts.previous.hidden = !place || place.at === 0;
  parts.next.hidden = !place || (total !== null && place.at + 1 >= total);
}

/** Name and place of the file, with what can be done with it. */
function drawFile({ item }) {
  parts.title.textContent = item ? fileName(item.path) : words.details.notFound;
  if (!item) return parts.file.replaceChildren();
  const path = pathOf(item);
  const copy = el("button", { type: "button", class: "button small", onclick: () => copyPath(copy, path) });
  copy.append(icon("copy"), words.details.copy);
  const folder = el("button", { type: "button", class: "button small", onclick: () => showFolder(item.id) });
  folder.append(icon("folder"), words.details.folder);
  const facts = el("span", { class: "muted", text: captionOf({ item, alt: "" }).split(" · ").slice(1).join(" · ") });
  const shown = el("span", { class: "path", title: path }, el("bdi", { text: path }));
  return parts.file.replaceChildren(...[shown, facts, copy, item.can_show ? folder : null].filter(Boolean));
}

async function copyPath(button, path) {
  const isCopied = await copyText(path);
  parts.said.textContent = isCopied ? words.details.copied : words.details.cannotCopy;
  button.lastChild.textContent = isCopied ? words.lightbox.copied : words.details.cannotCopy;
  setTimeout(() => (button.lastChild.textContent = words.details.copy), 2000);
}

/** Pictures to compare with: those of the query, selected ones, else the neighbours. */
function others() {
  const near = place ? [place.list.get(place.at - 1)?.id, place.list.get(place.at + 1)?.id] : [];
  const first = [...state.like, ...selection.ids];
  const known = (first.some((name) => name !== state.show) ? first : near).filter((name) => name !== undefined);
  const all = new Set([...known, state.against].filter((name) => name !== null && name !== state.show));
  return [...all].slice(0, OFFERED);
}

async function drawOthers() {
  const now = turn;
  parts.others.hidden = state.against === null;
  if (parts.others.hidden) return;
  const names = others();
  const pictures = await Promise.all(names.map(async (name) => ({ name, ...(await pictureOf(name)) })));
  if (now !== turn) return;
  const buttons = pictures.map(({ name, thumb, alt }) => {
    const label = state.like.includes(name) ? `${words.lightbox.query}, ${alt}` : alt;
    const src = isUpload(name) ? thumb : api.thumbnailURL(Number(name), 128);
    const onclick = () => change({ against: name }, "replace");
    const attributes = { type: "button", "aria-pressed": String(name === state.against), "aria-label": label, onclick };
    return el("button", { title: label, ...attributes }, el("img", { src, alt: "", draggable: "false" }));
  });
  redraw(parts.others, ...(buttons.length > 1 ? buttons : []));
}

/** Load the thumbnails of the neighbours, so that they show at once. */
function preload() {
  for (const by of [1, -1]) {
    const item = place?.list.get(place.at + by);
    if (item) new Image().src = firstSource({ ...item, ...sourcesOf(item.id) });
  }
}

async function step(by) {
  if (!place) return;
  const { list, at } = place;
  const [item] = at + by >= 0 ? await list.collect(at + by, at + by).catch(() => []) : [];
  if (!item || state.show === null) return;
  place = { list, at: at + by, id: item.id };
  const against = item.id === state.against ? null : state.against;
  change({ show: item.id, against, differ: state.differ && against !== null }, "replace");
}

function zoomBy(factor) {
  parts.right.zoomBy(factor);
}

function fit() {
  zoom.fit();
  drawStages();
}

function toggleSelected() {
  const item = place?.list.get(place.at) ?? { id: Number(state.show) };
  selection.toggle(item);
  parts.said.textContent = words.selection.many(selection.size);
  drawTools();
}

/** One picture, or two: with the query, else with a selected picture, else with a neighbour. */
function toggleCompare() {
  if (state.against !== null && state.differ) change({ differ: false }, "replace");
  else if (state.against !== null) change({ against: null }, "replace");
  else change({ against: others()[0] ?? null }, "replace");
}

function toggleDifference() {
  const against = state.against ?? others()[0] ?? null;
  change({ against, differ: !state.differ && against !== null }, "replace");
}

const toDetails = () => change({ ...NONE, item: state.show }, "replace");

function onKey(event) {
  const { key, target } = event;
  const [dx, dy] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key] ?? [];
  if (event.ctrlKey || event.metaKey || event.altKey || (dx !== undefined && target.matches("input"))) return;
  if (dx !== undefined) {
    if (!zoom.isFit) parts.right.pan(STEP * dx, STEP * dy);
    else if (dx) step(-dx);
  } else if (key === "+" || key === "=") zoomBy(1.5);
  else if (key === "-") zoomBy(1 / 1.5);
  else if (key === "0") fit();
  else if (key === "c") toggleCompare();
  else if (key === "d") toggleDifference();
  else if (key === "x") toggleSelected();
  else if (key === "i") toDetails();
  else if (key === " " && !target.closest("button, a")) askToClose();
  else return;
  event.preventDefault();
}

/** Close it, without a step that Back would open again. */
function askToClose() {
  if (isPushed) history.back();
  else change(NONE, "replace");
}

function close() {
  drawn = "";
  turn++;
  if (!dialog.open) return;
  dialog.close(); // the browser gives the focus back
  const grid = findGrid();
  const isLost = document.activeElement === document.body || dialog.contains(document.activeElement);
  const isElsewhere = place !== null && place.id !== opened.id && grid?.root.contains(opened.opener);
  if (place && place.list === grid?.list && (isElsewhere || isLost)) grid.focus(place.at);
  else if (isLost) grid?.focus();
}
