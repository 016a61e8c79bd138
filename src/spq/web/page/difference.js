/** How two pictures differ, pixel by pixel. */

export const LONGEST = 1600; // pixels of the longer side that are compared
const NOISE = 3; // of 255; smaller differences come from saving as JPEG, or from another size

/**
 * Write into `out` how two pictures of one size differ, amplified: black where they are the same.
 * @param {Uint8ClampedArray} a RGBA
 * @param {Uint8ClampedArray} b RGBA
 * @param {Uint8ClampedArray} out RGBA
 * @param {number} gain
 */
export function paintDifference(a, b, out, gain) {
  for (let i = 0; i < a.length; i += 4) {
    for (let c = 0; c < 3; c++) out[i + c] = gain * Math.abs(a[i + c] - b[i + c]);
    out[i + 3] = 255;
  }
}

/**
 * How much two pictures of one size differ.
 * @param {Uint8ClampedArray} a RGBA
 * @param {Uint8ClampedArray} b RGBA
 * @returns {{pixels: number, mean: number}} share of pixels that differ visibly, and their mean difference, 0 to 1
 */
export function measureDifference(a, b) {
  let count = 0;
  let sum = 0;
  for (let i = 0; i < a.length; i += 4) {
    const most = Math.max(Math.abs(a[i] - b[i]), Math.abs(a[i + 1] - b[i + 1]), Math.abs(a[i + 2] - b[i + 2]));
    if (most <= NOISE) continue;
    count++;
    sum += most;
  }
  return { pixels: count / (a.length / 4), mean: count ? sum / count / 255 : 0 };
}

/**
 * The size at which two pictures are compared: that of the smaller one, with the shape of the first.
 * @param {import("./zoom.js").Size} a
 * @param {import("./zoom.js").Size} b
 */
export function sizeToCompare(a, b) {
  const scale = Math.min(1, LONGEST / Math.max(a.width, a.height), Math.max(b.width / a.width, b.height / a.height));
  return { width: Math.max(1, Math.round(a.width * scale)), height: Math.max(1, Math.round(a.height * scale)) };
}

/** Whether two pictures have different shapes, so that one is stretched. */
export const areShapesDifferent = (a, b) => Math.abs((a.width * b.height) / (a.height * b.width) - 1) > 0.02;
