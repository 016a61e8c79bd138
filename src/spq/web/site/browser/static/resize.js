// The model's input: RGB, resized to S x S exactly as Pillow's antialiased bilinear `resize` does it: the same weights,
// the same rounding, width first. (From version 13, Pillow resizes the height of some high pictures first. Then values
// differ by 1.)

const BITS = 22; // of the fraction of a weight, as in Pillow

/** Return planes (3, S, S) of RGBA pixels (height, width, 4). */
export function toPlanes(rgba, width, height, S) {
  const across = resizedRows(rgba, width, height, S);
  const squared = transposed(resizedRows(transposed(across, S, height), height, S, S), S, S);
  const planes = new Uint8Array(3 * S * S);
  for (let at = 0; at < S * S; at++) for (let c = 0; c < 3; c++) planes[c * S * S + at] = squared[4 * at + c];
  return planes;
}

/** Resize each row (width) of RGBA pixels to S pixels. */
function resizedRows(pixels, width, height, S) {
  if (width === S) return pixels;
  const places = weights(width, S);
  const out = new Uint8ClampedArray(4 * S * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < S; x++) {
      const { first, share } = places[x];
      let red = 1 << (BITS - 1),
        green = red,
        blue = red; // one half, for rounding
      for (let i = 0, at = 4 * (y * width + first); i < share.length; i++, at += 4) {
        red += pixels[at] * share[i];
        green += pixels[at + 1] * share[i];
        blue += pixels[at + 2] * share[i];
      }
      const to = 4 * (y * S + x);
      out[to] = red >> BITS;
      out[to + 1] = green >> BITS;
      out[to + 2] = blue >> BITS;
      out[to + 3] = 255;
    }
  }
  return out;
}

/** Return the first pixel and the weights for each of S pixels: a triangle as wide as two steps of the larger grid. */
function weights(size, S) {
  const scale = size / S,
    reach = Math.max(scale, 1),
    steepness = 1 / reach;
  return Array.from({ length: S }, (_, x) => {
    const centre = (x + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(size, Math.trunc(centre + reach + 0.5));
    const share = [];
    for (let i = first; i < last; i++) share.push(Math.max(0, 1 - Math.abs((i - centre + 0.5) * steepness)));
    const sum = share.reduce((a, b) => a + b, 0);
    return { first, share: Int32Array.from(share, (w) => Math.trunc(0.5 + (w / sum) * (1 << BITS))) };
  });
}

function transposed(pixels, width, height) {
  const from = new Uint32Array(pixels.buffer, pixels.byteOffset, width * height);
  const to = new Uint32Array(width * height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) to[x * height + y] = from[y * width + x];
  return new Uint8ClampedArray(to.buffer);
}

/**
 * Return the factor (1, 2, 4 or 8) by which spq's decoder shrinks a JPEG: at least twice the needed size remains.
 */
export function draftScale(width, height, S) {
  const fits = Math.min(Math.floor(width / (2 * S)), Math.floor(height / (2 * S)));
  return [8, 4, 2].find((scale) => fits >= scale) ?? 1;
}

/** Return means of scale x scale pixels: like a JPEG that is decoded at a fraction of its size, except for rounding. */
export function shrunk(rgba, width, height, scale) {
  const w = Math.ceil(width / scale),
    h = Math.ceil(height / scale);
  const out = new Uint8ClampedArray(4 * w * h);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const right = Math.min(width, (x + 1) * scale),
        bottom = Math.min(height, (y + 1) * scale);
      const sum = [0, 0, 0];
      for (let v = y * scale; v < bottom; v++) {
        for (let u = x * scale; u < right; u++) for (let c = 0; c < 3; c++) sum[c] += rgba[4 * (v * width + u) + c];
      }
      const count = (right - x * scale) * (bottom - y * scale);
      for (let c = 0; c < 3; c++) out[4 * (y * w + x) + c] = Math.round(sum[c] / count);
      out[4 * (y * w + x) + 3] = 255;
    }
  }
  return { rgba: out, width: w, height: h };
}
