/** Makes large pictures smaller before they are sent. A network sees a few hundred pixels of a picture. */

const SIDES = [2048, 1448, 1024]; // pixels of the longer side of a smaller picture
const QUALITY = 0.9;
const MOST_PIXELS = 40e6; // a server decodes 50 million, unless its owner says otherwise
const MOST_BYTES = 30e6; // of one request; a server takes 32 MB
const QUICK = 1e6; // bytes that need not be smaller on the way to another machine

const isLocal = () => /^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname);

/**
 * Return the picture, or a smaller copy if it is too large to send or would take long. What the browser cannot show is
 * returned as it is: the server knows more formats.
 * @param {Blob} blob
 * @param {number} [count] pictures of the same request
 * @returns {Promise<Blob>}
 */
export async function fitToSend(blob, count = 1) {
  const most = isLocal() ? MOST_BYTES / count : Math.min(QUICK, MOST_BYTES / count);
  const url = URL.createObjectURL(blob);
  try {
    const image = new Image();
    image.src = url;
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject }));
    const { naturalWidth: width, naturalHeight: height } = image; // upright
    if (blob.size <= most && width * height <= MOST_PIXELS) return blob;
    await image.decode();
    let made = blob;
    for (const side of SIDES) {
      made = await drawn(image, Math.min(1, side / Math.max(width, height)));
      if (made.size <= most) break;
    }
    return made.size < blob.size || width * height > MOST_PIXELS ? made : blob;
  } catch {
    return blob;
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function drawn(image, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  const context = canvas.getContext("2d");
  if (!context) throw new Error("the browser draws nothing");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  let isOpaque = true;
  for (let at = 3; at < data.length && isOpaque; at += 4) isOpaque = data[at] === 255;
  const made = await new Promise((resolve) => canvas.toBlob(resolve, isOpaque ? "image/jpeg" : "image/png", QUALITY));
  if (!made) throw new Error("the browser made no picture");
  return made;
}
