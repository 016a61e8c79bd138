/** What the map paints on its canvas: points, pictures, the lasso. */

import { state } from "./state.js";

export function paintPoints(map, context, color) {
  const { x, y } = map.data;
  const { scale, width, height, center } = map;
  context.fillStyle = color;
  context.globalAlpha = 0.35;
  const left = width / 2 - center.x * scale,
    top = height / 2 - center.y * scale;
  for (let i = 0; i < x.length; i++) {
    const sx = x[i] * scale + left,
      sy = y[i] * scale + top;
    if (sx > 0 && sy > 0 && sx < width && sy < height) context.fillRect(sx - 1, sy - 1, 2, 2);
  }
  context.globalAlpha = 1;
}

export function paintPictures(map, context, accent) {
  const { found, most } = map.mosaic();
  const cell = map.side * 2 ** (map.level - Math.floor(map.level));
  const wanted = new Set();
  map.shown = [];
  for (const one of found.values()) {
    const [sx, sy] = map.toScreen(one.x, one.y);
    if (sx < -cell || sy < -cell || sx > map.width + cell || sy > map.height + cell) continue;
    const side = cell * (0.5 + 0.46 * Math.sqrt(Math.log1p(one.many) / Math.log1p(most)));
    const id = map.data.ids[one.at];
    wanted.add(id);
    map.shown.push({ ...one, id, sx, sy, cell });
    const stamp = map.stamps.get(id);
    if (stamp) context.drawImage(stamp, sx - side / 2, sy - side / 2, side, side);
    if (map.selected?.has(id)) {
      context.strokeStyle = accent;
      context.lineWidth = 2.5;
      context.strokeRect(sx - side / 2, sy - side / 2, side, side);
    }
  }
  map.stamps.forget((id) => wanted.has(id));
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
