/** What the page knows by the time an answer comes: the search of then, steps that failed, pointers that are up. */

import assert from "node:assert/strict";
import { test } from "node:test";

const element = { textContent: "", setAttribute: () => {} };
globalThis.document = { documentElement: { lang: "en" }, querySelector: () => element, hidden: false };

const { api } = await import("../../src/spq/web/page/api.js");
const { Review } = await import("../../src/spq/web/page/copies_review.js");
const { untilUp } = await import("../../src/spq/web/page/dom.js");
const { Nearness } = await import("../../src/spq/web/page/nearness.js");
const { Pages } = await import("../../src/spq/web/page/pages.js");
const { searchRequest } = await import("../../src/spq/web/page/search_request.js");
const { state } = await import("../../src/spq/web/page/state.js");
const { find, keep } = await import("../../src/spq/web/page/uploads.js");
const { loadBands } = await import("../../src/spq/web/page/bands.js");

test("a request has the pictures of one search, although the search changes while they are read", async () => {
  Object.assign(state, { like: [5], not: [6], box: [1, 2, 3, 4] });
  const request = searchRequest();
  Object.assign(state, { like: [], not: [7], box: null });
  const { query } = await request;
  assert.deepEqual([query.ids, query.not_ids, query.box], [[5], [6], [1, 2, 3, 4]]);
});

test("a picture is kept as it is if what makes it smaller cannot be loaded", async () => {
  const name = keep(new Blob(["abc"]), async () => {
    throw new TypeError("Failed to fetch dynamically imported module");
  });
  assert.equal((await find(name)).blob.size, 3);
});

test("an undo that could not be sent can be tried again", async () => {
  const review = new Review(() => {});
  review.steps.push({ batch: 3, count: 1 });
  api.undoDecisions = async () => {
    throw new Error("the server does not answer");
  };
  await review.undo();
  assert.deepEqual(review.steps, [{ batch: 3, count: 1 }]);
  api.undoDecisions = async () => ({ revision: 4, progress: {}, changed: [], reload: false, count: 1 });
  await review.undo();
  assert.deepEqual(review.steps, []);
});

test("nothing listens to a pointer any more once it is up", () => {
  const target = new EventTarget();
  const seen = [];
  untilUp(
    target,
    () => seen.push("move"),
    () => seen.push("end"),
  );
  for (const type of ["pointermove", "pointerup", "pointermove", "pointercancel"])
    target.dispatchEvent(new Event(type));
  assert.deepEqual(seen, ["move", "end"]);
});

test("the line where similarity ends is found in a list of billions, of which two pages are loaded", {
  timeout: 5000,
}, async () => {
  const reach = { very_close: 1, close: 1549, copies: 1, random: 0 };
  api.bands = async () => ({ bands: { same: null, picture: reach, code: reach } });
  const fetchPage = async (offset, top) => ({
    items: Array.from({ length: top }, (_, n) => ({ id: offset + n, distance: offset + n })),
    total: 4e9,
    ends: false,
  });
  const list = new Pages(fetchPage, { changed: () => {}, failed: () => {} });
  list.want(1500, 1699);
  loadBands();
  await new Promise((resolve) => setTimeout(resolve, 10));
  const near = new Nearness({ list });
  near.note([{ distance: 0 }], 0, "picture");
  near.find();
  assert.equal(near.lineAt, 1550);
});
