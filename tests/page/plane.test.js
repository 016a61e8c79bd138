/** The numbers of moving and zooming a plane. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Plane } from "../../src/spq/web/page/plane.js";

function planeOf(x, y) {
  const plane = new Plane();
  Object.assign(plane, { width: 800, height: 600, side: 60 });
  plane.hold(x, y);
  plane.fill();
  plane.restore(null);
  return plane;
}

const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-6, `${a} is not ${b}`);

test("all points are visible at first, above the buttons", () => {
  const plane = planeOf([-3, 5, 1], [2, -8, 0]);
  for (const [x, y] of [
    [-3, 2],
    [5, -8],
    [1, 0],
  ]) {
    const [sx, sy] = plane.toScreen(x, y);
    assert.ok(sx >= 0 && sx <= 800 && sy >= 0 && sy <= 600 - 64, `${sx}, ${sy}`);
  }
});

test("a point on the screen and on the plane are the same one", () => {
  const plane = planeOf([0, 10], [0, 10]);
  plane.zoom(2.5, 100, 100);
  plane.pan(30, -20);
  const [x, y] = plane.toPlane(123, 456);
  const [sx, sy] = plane.toScreen(x, y);
  near(sx, 123);
  near(sy, 456);
});

test("what is under the pointer stays there while zooming", () => {
  const plane = planeOf([0, 10], [0, 10]);
  const before = plane.toPlane(700, 50);
  plane.zoom(3, 700, 50);
  const after = plane.toPlane(700, 50);
  near(before[0], after[0]);
  near(before[1], after[1]);
});

test("the place in the address leads back to the same view", () => {
  const plane = planeOf([0, 1000], [0, 10]);
  plane.zoom(9, 33, 44);
  const other = planeOf([0, 1000], [0, 10]);
  other.restore(plane.place());
  const [a, b] = [plane.toScreen(17, 3), other.toScreen(17, 3)];
  assert.ok(Math.hypot(a[0] - b[0], a[1] - b[1]) < 0.01 * Math.hypot(...a));
});

test("zooming ends at both ends, and no points or one point are no trouble", () => {
  for (const plane of [planeOf([], []), planeOf([4], [4]), planeOf([1, 2], [1, 2])]) {
    plane.zoom(99);
    assert.equal(plane.level, 14);
    plane.zoom(-99);
    assert.equal(plane.level, -1);
    assert.ok(plane.toPlane(1, 1).every(Number.isFinite));
  }
});
