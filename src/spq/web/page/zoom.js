/** What a lightbox shows of a picture: how large, and which point is in the middle. Two pictures may share one. */

/** @typedef {{width: number, height: number}} Size */

export const CLOSEST = 8; // screen pixels for one pixel of the picture, at the largest zoom
const LARGEST_FIT = 4; // how much a small picture is enlarged to fit

/**
 * The size at which a whole picture fits.
 * @param {Size} picture
 * @param {Size} stage
 * @returns {Size}
 */
export function fitted(picture, stage, most = LARGEST_FIT) {
  const scale = Math.min(stage.width / picture.width, stage.height / picture.height, most);
  return { width: picture.width * scale, height: picture.height * scale };
}

export class Zoom {
  constructor() {
    this.level = 1; // 1: it fits
    this.x = 0.5; // the point in the middle of the stage, as a fraction of the picture
    this.y = 0.5;
  }

  get isFit() {
    return this.level <= 1.001;
  }

  fit() {
    Object.assign(this, { level: 1, x: 0.5, y: 0.5 });
  }

  /**
   * Zoom by a factor, so that a point stays where it is.
   * @param {number} factor
   * @param {[number, number]} point pixels from the middle of the stage
   * @param {Size} size the picture as it fits
   * @param {number} most the largest level
   */
  by(factor, [px, py], size, most) {
    const level = Math.min(Math.max(1, most), Math.max(1, this.level * factor));
    const part = 1 / this.level - 1 / level;
    this.x += (px / size.width) * part;
    this.y += (py / size.height) * part;
    this.level = level;
  }

  /**
   * Move the picture with a finger or the mouse.
   * @param {number} dx pixels
   * @param {number} dy pixels
   * @param {Size} size the picture as it fits
   */
  pan(dx, dy, size) {
    this.x -= dx / (size.width * this.level);
    this.y -= dy / (size.height * this.level);
  }

  /**
   * Keep the picture in the stage: no empty stripe where it could fill it.
   * @param {Size} size the picture as it fits
   * @param {Size} stage
   */
  hold(size, stage) {
    const inside = (at, length, room) => {
      const half = room / (2 * length * this.level);
      return half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, at));
    };
    this.x = inside(this.x, size.width, stage.width);
    this.y = inside(this.y, size.height, stage.height);
  }

  /**
   * Where the top left corner of the picture is, in pixels of the stage.
   * @param {Size} size the picture as it fits
   * @param {Size} stage
   */
  corner(size, stage) {
    return {
      left: stage.width / 2 - this.x * size.width * this.level,
      top: stage.height / 2 - this.y * size.height * this.level,
    };
  }
}
