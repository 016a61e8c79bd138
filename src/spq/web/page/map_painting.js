/** What the map paints on its canvas: points or their density, pictures, names, the lasso, and what is highlighted. */

import { channels } from "./map_colours.js";
import { regionNames, withoutOverlap } from "./map_names.js";
import { state } from "./state.js";

const BLOCK = 4; // pixels of a block of the density
const FEW = 5; // pictures of a cell on average, below which a coloured map shows pictures, too
const NAME = "600 13px system-ui, sans-serif";

/**
 * Pixels that are written one by one: 100,000 points take a millisecond or two.
 * @type {{data: ImageData, pixels: Uint32Array}?}
 */
let screen = null;

function clearScreen(width, height) {
  if (!screen || screen.data.width !== width || screen.data.height !== height) {
    const data = new ImageData(width, height);
    screen = { data, pixels: new Uint32Array(data.data.buffer) };
  }
  screen.pixels.fill(0);
  return screen;
}

const pixel = (/** @type {number[]} */ [red, green, blue], /** @type {number} */ alpha) =>
  ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/**
 * Paint all points.
 * @param {any} map
 * @param {CanvasRenderingContext2D} context
 */
export function paintPoints(map, context) {
  const { x, y } = map.data;
  const { ratio, colours, isHit } = map;
  const { width, height } = context.canvas;
  const { data, pixels } = clearScreen(width, height);
  const scale = map.scale * ratio;
  const left = width / 2 - map.center.x * scale,
    top = height / 2 - map.center.y * scale;
  const side = Math.max(1, Math.round((colours ? 3 : 2) * ratio));
  const half = side >> 1;
  const plain = pixel(channels(map.theme === "dark" ? "#8f8f97" : "#6f6f6c"), 110);
  const palette = colours ? colours.palette.map((color) => pixel(channels(color), 230)) : null;
  const faint = pixel(channels("#808080"), 55);
  for (let i = 0; i < x.length; i++) {
    const sx = (x[i] * scale + left - half) | 0,
      sy = (y[i] * scale + top - half) | 0;
    if (sx < 0 || sy < 0 || sx + side > width || sy + side > height) continue;
    const color = isHit && !isHit[i] ? faint : palette ? palette[colours.codes[i]] : plain;
    for (let row = sy * width + sx, end = row + side * width; row < end; row += width)
      for (let at = row; at < row + side; at++) pixels[at] = color;
  }
  context.putImageData(data, 0, 0);
}

/** Paint how many points are where. */
export function paintDensity(map, context, palette) {
  const { x, y } = map.data;
  const columns = Math.ceil(map.width / BLOCK),
    rows = Math.ceil(map.height / BLOCK);
  let counts = new Float32Array(columns * rows);
  const scale = map.scale / BLOCK;
  const left = columns / 2 - map.center.x * scale,
    top = rows / 2 - map.center.y * scale;
  for (let i = 0; i < x.length; i++) {
    const column = Math.floor(x[i] * scale + left),
      row = Math.floor(y[i] * scale + top);
    if (column >= 0 && row >= 0 && column < columns && row < rows) counts[row * columns + column]++;
  }
  for (let pass = 0; pass < 2; pass++) counts = blurred(counts, columns, rows);
  const most = Math.log1p(counts.reduce((a, b) => Math.max(a, b), 0)) || 1;
  const colors = palette.map((color) => pixel(channels(color), 255));
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < counts.length; at++) {
    const share = Math.log1p(counts[at]) / most;
    if (share > 0.02) pixels[at] = colors[Math.min(colors.length - 1, Math.round(share * (colors.length - 1)))];
  }
  const small = new OffscreenCanvas(columns, rows);
  small.getContext("2d")?.putImageData(image, 0, 0);
  context.drawImage(small, 0, 0, columns * BLOCK, rows * BLOCK);
}

function blurred(values, columns, rows) {
  const found = new Float32Array(values.length);
  for (let row = 1; row < rows - 1; row++) {
    for (let at = row * columns + 1, end = (row + 1) * columns - 1; at < end; at++) {
      const sides = values[at - 1] + values[at + 1] + values[at - columns] + values[at + columns];
      found[at] = (4 * values[at] + 2 * sides) / 12;
    }
  }
  return found;
}

/** Paint a picture in each cell; with colours only where cells have few. */
export function paintPictures(map, context, accent) {
  const { found, most } = map.mosaic();
  const cell = map.side * 2 ** (map.level - Math.floor(map.level));
  const { scale, width, height, center, colours } = map;
  const wanted = new Set();
  map.shown = [];
  const isShown = map.mode === "pictures" || (map.mode === "colours" && map.count < FEW * found.size);
  for (const one of isShown ? found : []) {
    const sx = (one.x - center.x) * scale + width / 2,
      sy = (one.y - center.y) * scale + height / 2;
    if (sx < -cell || sy < -cell || sx > width + cell || sy > height + cell) continue;
    const side = cell * (0.5 + 0.46 * Math.sqrt(Math.log1p(one.many) / Math.log1p(most)));
    const id = map.data.ids[one.at];
    wanted.add(id);
    map.shown.push({ ...one, id, sx, sy, cell });
    const stamp = map.stamps.get(id);
    if (stamp) context.drawImage(stamp, sx - side / 2, sy - side / 2, side, side);
    const frame = map.list.selected.has(id) ? accent : colours ? colours.palette[colours.codes[one.at]] : null;
    if (!frame) continue;
    context.strokeStyle = frame;
    context.lineWidth = 2.5;
    context.strokeRect(sx - side / 2, sy - side / 2, side, side);
  }
  map.stamps.forget((id) => wanted.has(id));
}

/** Paint the names of regions. They are found once for a zoom level. */
export function paintNames(map, context) {
  const { naming, data, width, height } = map;
  if (!naming) return;
  const level = Math.floor(map.level);
  if (map.named?.level !== level || map.named.data !== data || map.named.naming !== naming) {
    const codes = Uint8Array.from(data.ids, (id) => naming.of.get(id) ?? 255);
    const names = naming.names.map((name) => name.split("/").pop() || name);
    map.named = { level, data, naming, found: regionNames(data, codes, names, map.base * 2 ** level) };
  }
  context.font = NAME;
  context.textAlign = "center";
  context.textBaseline = "middle";
  /** @type {any[]} */
  const placed = [];
  for (const one of map.named.found) {
    const [sx, sy] = map.toScreen(one.x, one.y);
    if (sx < 0 || sy < 0 || sx > width || sy > height) continue;
    one.width ??= context.measureText(one.name).width + 16;
    const half = Math.min(one.width, width) / 2; // the whole name is on the map
    placed.push({ name: one.name, sx: Math.max(half, Math.min(width - half, sx)), sy, width: one.width });
  }
  const isDark = map.theme === "dark";
  for (const { name, sx, sy, width: wide } of withoutOverlap(placed, 24)) {
    context.fillStyle = isDark ? "rgb(24 24 27 / 0.82)" : "rgb(255 255 255 / 0.86)";
    context.beginPath();
    context.roundRect(sx - wide / 2, sy - 11, wide, 22, 11);
    context.fill();
    context.fillStyle = isDark ? "#f2f2f3" : "#1d1d1b";
    context.fillText(name, sx, sy + 1);
  }
}

/** Paint a ring around each of some pictures. */
export function paintRings(map, context, ids, color, radius) {
  context.strokeStyle = color;
  context.lineWidth = 3;
  for (const id of ids) {
    const at = map.places.get(id);
    if (at === undefined) continue;
    const [sx, sy] = map.toScreen(map.whole.x[at], map.whole.y[at]);
    context.beginPath();
    context.arc(sx, sy, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

export function paintLasso(map, context, accent) {
  const corners = map.drawing ?? state.lasso;
  if (!corners || corners.length < 4) return;
  context.beginPath();
  for (let i = 0; i < corners.length; i += 2) context.lineTo(...map.toScreen(corners[i], corners[i + 1]));
  context.closePath();
  context.globalAlpha = 0.12;
  context.fillStyle = accent;
  context.fill();
  context.globalAlpha = 1;
  context.strokeStyle = accent;
  context.lineWidth = 2;
  context.stroke();
}
