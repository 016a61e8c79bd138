// Descriptors of the visitor's own pictures. The browser decodes, onnxruntime-web runs the model.
// Nothing leaves the page.

import { load } from "./files.js";
import { Refusal } from "./refusal.js";
import { draftScale, shrunk, toPlanes } from "./resize.js";

const MAX_PIXELS = 60_000_000; // every browser's canvas can hold these

/** Runs the model. It loads runtime and model from the folder `base` (with a slash at its end). */
export class Encoder {
  static async load(base, { image_size, checksums }) {
    const model = new Uint8Array(await load(`${base}model.onnx`, checksums["model.onnx"]));
    const ort = await import(`${base}ort/ort.mjs`);
    ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
    ort.env.wasm.wasmPaths = { wasm: `${base}ort/ort.wasm` };
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    return new Encoder(ort, session, image_size);
  }

  constructor(ort, session, size) {
    this.ort = ort;
    this.session = session;
    this.size = size;
  }

  /** Return the descriptor (D) of a Blob; box and full as in `pixelsOf`. */
  async describe(blob, box, full) {
    const planes = await pixelsOf(blob, box, full, this.size);
    const pixels = new this.ort.Tensor("uint8", planes, [1, 3, this.size, this.size]);
    const { descriptor } = await this.session.run({ pixels }, ["descriptor"]);
    return Float32Array.from(descriptor.data);
  }
}

/**
 * Return planes (3, S, S) of a Blob, or of a region of it: upright, on white, without its colour profile.
 * @param box null, or [x, y, width, height] in pixels of the upright picture.
 * @param full [width, height] of the original picture if the Blob is a smaller version of it; else null.
 */
export async function pixelsOf(blob, box, full, S) {
  const picture = await decoded(blob);
  const [x, y, width, height] = region(box, full ?? [picture.width, picture.height], picture);
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {any} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, -x, -y);
  picture.close();
  let pixels = { rgba: context.getImageData(0, 0, width, height).data, width, height };
  const scale = box || !(await isJpeg(blob)) ? 1 : draftScale(width, height, S);
  if (scale > 1) pixels = shrunk(pixels.rgba, width, height, scale);
  return toPlanes(pixels.rgba, pixels.width, pixels.height, S);
}

function region(box, [fullWidth, fullHeight], { width, height }) {
  if (!box) return [0, 0, width, height];
  const [x, y, w, h] = box;
  if (!(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= fullWidth && y + h <= fullHeight)) {
    throw new Refusal(`the box is not inside the picture of ${fullWidth} x ${fullHeight} pixels`);
  }
  const [left, right] = [x, x + w].map((at) => Math.round((at * width) / fullWidth));
  const [above, below] = [y, y + h].map((at) => Math.round((at * height) / fullHeight));
  return [
    Math.min(left, width - 1),
    Math.min(above, height - 1),
    Math.max(1, right - left),
    Math.max(1, below - above),
  ];
}

async function decoded(blob) {
  let picture;
  try {
    picture = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Refusal("not a picture that this browser can read; try JPEG or PNG");
  }
  if (picture.width * picture.height > MAX_PIXELS) {
    const size = `${picture.width} x ${picture.height}`;
    picture.close();
    throw new Refusal(`${size} pixels are over the limit of ${MAX_PIXELS.toLocaleString("en")}; scale it down first`);
  }
  return picture;
}

async function isJpeg(blob) {
  const start = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  return start[0] === 0xff && start[1] === 0xd8;
}
