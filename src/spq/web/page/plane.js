/** Which part of a plane a canvas shows, and how large: the numbers for moving and zooming. */

const HEAD = 48; // height of what is over its upper end
const TOOLS = 64; // height of the buttons over its lower end
const MARGIN = 1.3; // around all points, in pictures
const ZOOMS = [-1, 14];

export class Plane {
  extent = { x: 0, y: 0, w: 1, h: 1 }; // of all points
  /** @type {any} */
  center = null; // {x, y}, once it was fitted
  level = 0;
  base = 1; // pixels per unit at level 0
  width = 0; // of the canvas
  height = 0;
  side = 0; // of a picture

  /** Called after a move or a zoom. */
  changed() {}

  /** Set the points. All of them are visible at zoom 0. */
  hold(x, y) {
    const ends = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    const [x0, x1] = ends(x),
      [y0, y1] = ends(y);
    this.extent = x.length
      ? { x: (x0 + x1) / 2, y: (y0 + y1) / 2, w: x1 - x0 || 1, h: y1 - y0 || 1 }
      : { x: 0, y: 0, w: 1, h: 1 };
  }

  /** Fit the points to the canvas, with a margin of half a picture. */
  fill() {
    const { w, h } = this.extent;
    const { width, height, side } = this;
    const wide = width - MARGIN * side,
      high = height - MARGIN * side - HEAD - TOOLS;
    this.base = Math.min(Math.max(80, wide) / w, Math.max(80, high) / h);
  }

  /** Show [x, y, zoom], or all if null. */
  restore(place) {
    const [x, y, zoom] = place ?? [this.extent.x, this.middle, 0];
    this.center = { x, y };
    this.level = Math.min(ZOOMS[1], Math.max(ZOOMS[0], zoom));
  }

  /** [x, y, zoom] with few digits. */
  place() {
    return [this.center.x, this.center.y, this.level].map((value) => Number(value.toPrecision(this.digits(5))));
  }

  /** Digits that are needed at this zoom for the precision of `many` digits at zoom 0. */
  digits(many) {
    return many + Math.ceil(Math.max(0, this.level) * Math.log10(2));
  }

  /** Centre of the view at which all points are visible between the buttons. */
  get middle() {
    return this.extent.y + (TOOLS - HEAD) / 2 / this.base;
  }

  get scale() {
    return this.base * 2 ** this.level;
  }

  toScreen(x, y) {
    return [(x - this.center.x) * this.scale + this.width / 2, (y - this.center.y) * this.scale + this.height / 2];
  }

  toPlane(sx, sy) {
    return [(sx - this.width / 2) / this.scale + this.center.x, (sy - this.height / 2) / this.scale + this.center.y];
  }

  zoom(by, sx = this.width / 2, sy = this.height / 2) {
    const [x, y] = this.toPlane(sx, sy);
    this.level = Math.min(ZOOMS[1], Math.max(ZOOMS[0], this.level + by));
    const [nx, ny] = this.toPlane(sx, sy);
    this.center.x += x - nx;
    this.center.y += y - ny;
    this.changed();
  }

  pan(dx, dy) {
    this.center.x -= dx / this.scale;
    this.center.y -= dy / this.scale;
    this.changed();
  }

  fit() {
    this.restore(null);
    this.changed();
  }
}
