/**
 * The pictures of the map. At each zoom level the plane is divided into cells, and each cell shows the picture nearest
 * to its middle, larger if the cell has more pictures. Cells move with the plane, so nothing flickers.
 */

const KEPT = 500; // pictures in memory
const AT_ONCE = 6; // downloads at the same time
const SIDE = 128; // pixels of a picture

/**
 * The cells: {at: its picture, many: how many it has, x, y: its middle}; and the largest `many`.
 * @param {Float32Array} x
 * @param {Float32Array} y
 * @param {number} size of a cell
 * @param {Uint8Array?} isTaken which points count; all if null
 */
export function cells(x, y, size, isTaken = null) {
  const places = new Map(); // one number for column and row -> cell
  const found = [];
  let most = 1;
  for (let i = 0; i < x.length; i++) {
    if (isTaken && !isTaken[i]) continue;
    const column = Math.floor(x[i] / size),
      row = Math.floor(y[i] / size);
    const key = column * 16777216 + row;
    let cell = places.get(key);
    const away = (x[i] / size - column - 0.5) ** 2 + (y[i] / size - row - 0.5) ** 2;
    if (!cell) {
      cell = { at: i, many: 0, away: Infinity, x: (column + 0.5) * size, y: (row + 0.5) * size };
      places.set(key, cell);
      found.push(cell);
    }
    cell.many++;
    if (cell.many > most) most = cell.many;
    if (away < cell.away) {
      cell.at = i;
      cell.away = away;
    }
  }
  return { found, most };
}

/** Positions of the points inside a polygon [x, y, x, y, ...] (even-odd rule). */
export function within(polygon, x, y) {
  const inside = [];
  const n = polygon.length / 2;
  for (let i = 0; i < x.length; i++) {
    let is = false;
    for (let a = 0, b = n - 1; a < n; b = a++) {
      const ax = polygon[2 * a],
        ay = polygon[2 * a + 1],
        bx = polygon[2 * b],
        by = polygon[2 * b + 1];
      if (ay > y[i] !== by > y[i] && x[i] < ((bx - ax) * (y[i] - ay)) / (by - ay) + ax) is = !is;
    }
    if (is) inside.push(i);
  }
  return inside;
}

/** Small square pictures for a canvas. The last used ones stay in memory. */
export class Stamps {
  constructor(addressOf, ready) {
    this.addressOf = addressOf;
    this.ready = ready;
    this.kept = new Map();
    /** @type {number[]} */
    this.waiting = [];
    this.loading = 0;
  }

  /** The picture of an id, or null until it is loaded. */
  get(id) {
    const stamp = this.kept.get(id);
    if (stamp === undefined) {
      this.kept.set(id, null);
      this.waiting.push(id);
      this.next();
      return null;
    }
    this.kept.delete(id);
    this.kept.set(id, stamp);
    return stamp;
  }

  /** Drop pictures that are no longer visible. */
  forget(isWanted) {
    this.waiting = this.waiting.filter((id) => isWanted(id) || !this.kept.delete(id));
    for (const id of this.kept.keys()) {
      if (this.kept.size <= KEPT) break;
      if (!isWanted(id)) this.kept.delete(id);
    }
  }

  async next() {
    if (this.loading >= AT_ONCE || !this.waiting.length) return;
    const id = this.waiting.shift();
    this.loading++;
    const image = new Image();
    image.src = this.addressOf(id);
    try {
      await image.decode();
      this.kept.set(id, stamped(image));
      this.ready();
    } catch {
      setTimeout(() => this.kept.get(id) === null && this.kept.delete(id), 3000); // then it is loaded again
    }
    this.loading--;
    this.next();
  }
}

function stamped(image) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const { naturalWidth: width, naturalHeight: height } = image;
  const side = Math.min(width, height);
  context.beginPath();
  context.roundRect(0, 0, SIDE, SIDE, SIDE / 12);
  context.clip();
  context.drawImage(image, (width - side) / 2, (height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  return canvas;
}
