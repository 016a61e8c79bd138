/** A stage shows one picture. Wheel, pinch and drag zoom and move it; a swipe leads to the next one. */

import { debounce, el } from "./dom.js";
import { CLOSEST, fitted } from "./zoom.js";

export const FIRST = 1024; // pixels of the thumbnail that is shown first
const RESTS = 250; // ms until the original is loaded where the thumbnail is not sharp
const SWIPE = 60; // pixels
const AGAIN = [1500, 4000]; // ms before a picture that failed is loaded again: a busy server refuses some
const STILL = 6; // pixels that a pointer may move during a click

/** @typedef {{thumb: string, full: string | null, width: number, height: number, alt: string}} Picture */

/** What is loaded first: the original if it is small, else a thumbnail. */
export const firstSource = (/** @type {Omit<Picture, "alt">} */ { thumb, full, width, height }) =>
  full && width && Math.max(width, height) <= FIRST ? full : thumb;

export class Stage {
  /**
   * @param {import("./zoom.js").Zoom} zoom which other stages may share
   * @param {{moved: () => void, swiped: (x: number, y: number) => void, failed: (stage: Stage) => void}} listeners
   *   moved: after each change of the zoom; swiped: -1, 0 or 1 in each direction.
   */
  constructor(zoom, { moved, swiped, failed }) {
    this.zoom = zoom;
    this.moved = moved;
    this.swiped = swiped;
    this.failed = failed;
    this.image = el("img", { draggable: "false", alt: "" });
    this.root = el("div", { class: "stage" }, this.image);
    /** @type {any} */
    this.content = this.image; // or a canvas
    /** @type {import("./zoom.js").Size} */
    this.natural = { width: 1, height: 1 };
    this.most = 0; // how much a small picture is enlarged to fit; 0: the usual
    this.full = /** @type {string | null} */ (null); // still to load
    this.pointers = new Map();
    this.start = [0, 0]; // where a drag began
    this.isSwipe = false;
    this.isMouse = true;
    this.isMeasured = false;
    this.lastTap = -1e9;
    this.tries = 0;
    this.sharpen = debounce(RESTS, () => this.loadFull());
    this.image.addEventListener("load", () => this.loaded());
    this.image.addEventListener("error", () => this.again(this.image.getAttribute("src")));
    new ResizeObserver(() => this.draw()).observe(this.root);
    this.listen();
  }

  listen() {
    const { root } = this;
    root.addEventListener("pointerdown", (event) => this.down(event));
    root.addEventListener("pointermove", (event) => this.move(event));
    for (const type of ["pointerup", "pointercancel"]) root.addEventListener(type, (event) => this.up(event));
    root.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const lines = event.deltaMode === 1 ? 16 : 1;
        this.zoomBy(2 ** (-event.deltaY * lines * (event.ctrlKey ? 0.012 : 0.0025)), this.point(event));
      },
      { passive: false },
    );
    root.addEventListener("dblclick", (event) => this.isMouse && this.toggle(this.point(event)));
  }

  /** @param {Picture} picture */
  show(picture) {
    this.root.classList.remove("lost");
    this.root.classList.add("waits");
    this.sharpen.cancel();
    if (this.content !== this.image) {
      this.root.replaceChildren(this.image);
      this.content = this.image;
    }
    const source = firstSource(picture);
    this.full = source === picture.full ? null : picture.full;
    this.tries = 0;
    this.image.alt = picture.alt;
    this.image.src = source;
    if (picture.width) this.natural = { width: picture.width, height: picture.height };
    this.isMeasured = Boolean(picture.width);
    this.draw();
  }

  /** Show a canvas instead of a picture. */
  showCanvas(/** @type {HTMLCanvasElement} */ canvas) {
    this.sharpen.cancel();
    this.full = null;
    this.content = canvas;
    this.root.replaceChildren(canvas);
    this.root.classList.remove("waits", "lost");
    this.natural = { width: canvas.width, height: canvas.height };
    this.draw();
  }

  loaded() {
    this.root.classList.remove("waits");
    if (!this.isMeasured) this.natural = { width: this.image.naturalWidth, height: this.image.naturalHeight };
    this.draw();
  }

  /** Load a picture again that did not come. */
  again(/** @type {string} */ source) {
    if (!source) return;
    const wait = AGAIN[this.tries++];
    if (!wait) this.failed(this);
    else setTimeout(() => this.image.getAttribute("src") === source && (this.image.src = source), wait);
  }

  async loadFull() {
    const { full } = this;
    if (!full || this.isSharp()) return;
    this.full = null;
    const source = this.image.getAttribute("src");
    const image = new Image();
    image.src = full;
    await image.decode().catch(() => null);
    // meanwhile it may show another picture
    const isHere = this.content === this.image && this.image.getAttribute("src") === source;
    if (image.naturalWidth && isHere) this.image.src = full;
  }

  isSharp() {
    const { width, height } = this.fit();
    return Math.max(width, height) * this.zoom.level * window.devicePixelRatio <= 1.25 * FIRST;
  }

  stageSize() {
    return { width: this.root.clientWidth || 1, height: this.root.clientHeight || 1 };
  }

  fit() {
    return fitted(this.natural, this.stageSize(), this.most || undefined);
  }

  /** The largest level: a few screen pixels for each pixel of the picture. */
  largest() {
    return Math.max(4, (CLOSEST * this.natural.width) / this.fit().width);
  }

  /** Screen pixels for each pixel of the picture. */
  scale() {
    return (this.fit().width * this.zoom.level) / this.natural.width;
  }

  draw() {
    const size = this.fit();
    const stage = this.stageSize();
    const { left, top } = this.zoom.corner(size, stage);
    const { level } = this.zoom;
    Object.assign(this.content.style, {
      width: `${size.width}px`,
      height: `${size.height}px`,
      transform: `translate(${left}px, ${top}px) scale(${level})`,
      imageRendering: this.scale() > 3 ? "pixelated" : "auto",
    });
    this.root.classList.toggle("zoomed", !this.zoom.isFit);
    if (this.full && !this.isSharp()) this.sharpen();
  }

  /** Pixels from the middle of the stage. */
  point({ clientX, clientY }) {
    const box = this.root.getBoundingClientRect();
    return /** @type {[number, number]} */ ([clientX - box.left - box.width / 2, clientY - box.top - box.height / 2]);
  }

  zoomBy(/** @type {number} */ factor, /** @type {[number, number]} */ point = [0, 0]) {
    this.zoom.by(factor, point, this.fit(), this.largest());
    this.settle();
  }

  /** Between the whole picture and its own pixels. */
  toggle(/** @type {[number, number]} */ point) {
    if (!this.zoom.isFit) this.zoom.fit();
    else this.zoom.by(Math.max(2.5, 1 / this.scale()), point, this.fit(), this.largest());
    this.settle();
  }

  pan(/** @type {number} */ dx, /** @type {number} */ dy) {
    this.zoom.pan(dx, dy, this.fit());
    this.settle();
  }

  settle() {
    this.zoom.hold(this.fit(), this.stageSize());
    this.moved();
  }

  down(event) {
    if (event.button > 0) return;
    this.root.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.start = [event.clientX, event.clientY];
    this.isMouse = event.pointerType === "mouse";
    this.isSwipe = this.pointers.size === 1 && this.zoom.isFit && !this.isMouse;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const here = [event.clientX, event.clientY];
    this.pointers.set(event.pointerId, here);
    if (this.pointers.size > 1) {
      this.isSwipe = false;
      this.pinch(event, before, here);
    } else if (!this.isSwipe) this.pan(here[0] - before[0], here[1] - before[1]);
    else this.drag(here[0] - this.start[0]);
  }

  pinch(event, before, here) {
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1] ?? here;
    const apart = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
    const middle = { clientX: (here[0] + other[0]) / 2, clientY: (here[1] + other[1]) / 2 };
    this.zoom.by(apart(here) / apart(before), this.point(middle), this.fit(), this.largest());
    this.pan((here[0] - before[0]) / 2, (here[1] - before[1]) / 2);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId) || this.pointers.size || !this.isSwipe) return;
    this.isSwipe = false;
    this.drag(0);
    if (event.type === "pointercancel") return;
    const [dx, dy] = [event.clientX - this.start[0], event.clientY - this.start[1]];
    if (Math.abs(dx) > SWIPE && Math.abs(dx) > Math.abs(dy)) this.swiped(Math.sign(dx), 0);
    else if (Math.abs(dy) > SWIPE) this.swiped(0, Math.sign(dy));
    else if (Math.hypot(dx, dy) < STILL) this.tapped(event);
  }

  /** Let the picture follow a finger. */
  drag(dx) {
    this.content.style.translate = dx ? `${dx}px` : "";
  }

  /** Two taps are a double click; not every browser sends one where touches are handled here. */
  tapped(event) {
    const isSecond = event.timeStamp - this.lastTap < 320;
    this.lastTap = isSecond ? -1e9 : event.timeStamp;
    if (isSecond) this.toggle(this.point(event));
  }
}
