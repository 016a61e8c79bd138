/** Mouse, touch and keys on a plane: drag, wheel and pinch move it, a lasso surrounds points, a click chooses one. */

import { Plane } from "./plane.js";

const CLICK = 260; // ms after which a click is no double click

export class PlaneInput extends Plane {
  pointers = new Map();
  start = [0, 0]; // where the pointer went down
  isDragged = false;
  isLasso = false;
  /** @type {number[]?} */
  drawing = null; // corners of the lasso that is being drawn
  clicked = 0; // timer of a click that may become a double click

  /** A click, but no double click. */
  tapped(/** @type {number} */ _sx, /** @type {number} */ _sy) {}

  /** The pointer of a mouse is over this place, or has left. */
  point(/** @type {number[]?} */ _here) {}

  /** A lasso was drawn around these corners. */
  surrounded(/** @type {number[]} */ _corners) {}

  armed(/** @type {boolean} */ _is) {}

  enter() {}

  draw() {}

  /** @param {HTMLCanvasElement} canvas */
  listen(canvas) {
    canvas.addEventListener("pointerdown", (event) => this.down(event, canvas));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event, true));
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("dblclick", (event) => {
      clearTimeout(this.clicked);
      this.zoom(1, event.offsetX, event.offsetY);
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  arm(is) {
    this.isLasso = is;
    this.armed(is);
  }

  wheel(event) {
    event.preventDefault();
    const scale = event.deltaMode === 1 ? 16 : 1;
    this.zoom(-event.deltaY * scale * (event.ctrlKey ? 0.012 : 0.0022), event.offsetX, event.offsetY);
  }

  down(event, canvas) {
    if (event.button > 0 || !this.center) return;
    canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.start = [event.offsetX, event.offsetY];
    this.isDragged = this.pointers.size > 1;
    if (this.pointers.size > 1) this.drawing = null;
    else if (this.isLasso || event.shiftKey) this.drawing = this.toPlane(event.offsetX, event.offsetY);
    this.point(null);
  }

  move(event) {
    const here = [event.offsetX, event.offsetY];
    const before = this.pointers.get(event.pointerId);
    if (!before) return this.point(event.pointerType === "mouse" ? here : null);
    this.pointers.set(event.pointerId, here);
    if (Math.hypot(here[0] - this.start[0], here[1] - this.start[1]) > 4) this.isDragged = true;
    if (this.drawing) {
      this.drawing.push(...this.toPlane(here[0], here[1]));
      return this.draw();
    }
    if (this.pointers.size === 1) return this.isDragged && this.pan(here[0] - before[0], here[1] - before[1]);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1] ?? here;
    const apart = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
    this.zoom(Math.log2(apart(here) / apart(before)), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
    return this.pan((here[0] - before[0]) / 2, (here[1] - before[1]) / 2);
  }

  up(event, isCancelled = false) {
    if (!this.pointers.delete(event.pointerId)) return;
    const drawn = this.drawing;
    if (this.pointers.size) return;
    this.drawing = null;
    if (drawn && !isCancelled && this.isDragged && drawn.length >= 6) {
      this.arm(false);
      this.surrounded(drawn);
    } else if (!this.isDragged && !isCancelled) {
      clearTimeout(this.clicked);
      const { offsetX, offsetY } = event;
      this.clicked = window.setTimeout(() => this.tapped(offsetX, offsetY), CLICK);
    }
    this.draw();
  }

  key(event) {
    const step = { ArrowLeft: [70, 0], ArrowRight: [-70, 0], ArrowUp: [0, 70], ArrowDown: [0, -70] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step) this.pan(step[0], step[1]);
    else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(-0.5);
    else if (event.key === "0") this.fit();
    else if (event.key === "Enter") this.enter();
    else if (event.key === "l") this.arm(!this.isLasso);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
