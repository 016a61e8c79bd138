/** The lightbox: where a picture is, how large, and how two differ. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  areShapesDifferent,
  measureDifference,
  paintDifference,
  sizeToCompare,
} from "../../src/spq/web/page/difference.js";
import { fitted, Zoom } from "../../src/spq/web/page/zoom.js";

const STAGE = { width: 800, height: 600 };

test("a whole picture fits, and a small one is not enlarged without a limit", () => {
  assert.deepEqual(fitted({ width: 4000, height: 2000 }, STAGE), { width: 800, height: 400 });
  assert.deepEqual(fitted({ width: 32, height: 32 }, STAGE), { width: 128, height: 128 });
  assert.deepEqual(fitted({ width: 32, height: 32 }, STAGE, Number.POSITIVE_INFINITY), { width: 600, height: 600 });
});

test("the point under the pointer stays there while it is zoomed", () => {
  const zoom = new Zoom();
  const size = { width: 800, height: 400 };
  const at = (point) => {
    const { left, top } = zoom.corner(size, STAGE);
    return [0, 1].map((n) => ([STAGE.width, STAGE.height][n] / 2 + point[n] - [left, top][n]) / zoom.level);
  };
  const point = /** @type {[number, number]} */ ([120, -70]);
  const before = at(point);
  zoom.by(3, point, size, 20);
  at(point).forEach((value, n) => assert.ok(Math.abs(value - before[n]) < 1e-9));
  zoom.by(100, point, size, 20);
  assert.equal(zoom.level, 20);
  zoom.by(0.001, point, size, 20);
  zoom.hold(size, STAGE);
  assert.deepEqual([zoom.isFit, zoom.x, zoom.y], [true, 0.5, 0.5]);
});

test("a picture that is moved leaves no empty stripe", () => {
  const zoom = new Zoom();
  const size = { width: 800, height: 400 };
  zoom.by(2, [0, 0], size, 20);
  zoom.pan(9999, -9999, size);
  zoom.hold(size, STAGE);
  const { left, top } = zoom.corner(size, STAGE);
  assert.deepEqual([left, top], [0, STAGE.height - 2 * size.height]);
});

test("two stages of different pictures show the same part of both", () => {
  const zoom = new Zoom();
  zoom.by(2, [100, 50], { width: 800, height: 400 }, 20);
  const parts = [
    { width: 800, height: 400 },
    { width: 300, height: 600 },
  ].map((size) => {
    const { left, top } = zoom.corner(size, STAGE);
    return [(STAGE.width / 2 - left) / size.width, (STAGE.height / 2 - top) / size.height];
  });
  parts[0].forEach((value, n) => assert.ok(Math.abs(value - parts[1][n]) < 1e-9));
});

test("a difference is black where two pictures are the same, and amplified elsewhere", () => {
  const a = new Uint8ClampedArray([10, 20, 30, 255, 10, 20, 30, 255, 0, 0, 0, 255, 9, 9, 9, 255]);
  const b = new Uint8ClampedArray([10, 20, 30, 255, 15, 20, 20, 255, 255, 0, 0, 255, 10, 8, 9, 255]);
  const out = new Uint8ClampedArray(16);
  paintDifference(a, b, out, 4);
  assert.deepEqual([...out], [0, 0, 0, 255, 20, 0, 40, 255, 255, 0, 0, 255, 4, 4, 0, 255]);
  const { pixels, mean } = measureDifference(a, b);
  assert.equal(pixels, 0.5); // one differs by no more than saving does
  assert.ok(Math.abs(mean - (10 + 255) / 2 / 255) < 1e-9);
});

test("pictures are compared at the size of the smaller one", () => {
  assert.deepEqual(sizeToCompare({ width: 800, height: 600 }, { width: 400, height: 300 }), {
    width: 400,
    height: 300,
  });
  assert.deepEqual(sizeToCompare({ width: 8000, height: 4000 }, { width: 9000, height: 4500 }), {
    width: 1600,
    height: 800,
  });
  assert.equal(areShapesDifferent({ width: 800, height: 600 }, { width: 401, height: 300 }), false);
  assert.equal(areShapesDifferent({ width: 800, height: 600 }, { width: 400, height: 400 }), true);
});
