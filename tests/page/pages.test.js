/** Lists that load what is visible. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Listed, Pages } from "../../src/spq/web/page/pages.js";

/** Pages over `total` numbers, and the offsets that were asked for. */
function numbers(total, { ends = false, ...options } = {}) {
  const asked = [];
  const fetchPage = async (offset, top) => {
    asked.push(offset);
    const items = Array.from({ length: Math.max(0, Math.min(top, total - offset)) }, (_, n) => offset + n);
    return { items, total, ends };
  };
  const pages = new Pages(fetchPage, { top: 10, changed: () => {}, failed: () => {}, ...options });
  return { pages, asked };
}

const loaded = () => new Promise((resolve) => setTimeout(resolve));

test("only the visible pages are loaded, each once", async () => {
  const { pages, asked } = numbers(95);
  pages.want(0, 12);
  await loaded();
  pages.want(5, 25);
  await loaded();
  assert.deepEqual(asked, [0, 10, 20]);
  assert.deepEqual([pages.get(0), pages.get(29), pages.get(30)], [0, 29, undefined]);
  assert.deepEqual([pages.total, pages.isExact], [95, true]);
  pages.want(90, 200);
  await loaded();
  assert.equal(pages.get(94), 94);
  assert.equal(asked.at(-1), 90); // nothing behind the end
});

test("a list of unknown length grows page by page until a short one ends it", async () => {
  const { pages } = numbers(25, { ends: true });
  pages.want(0, 5);
  await loaded();
  assert.deepEqual([pages.total, pages.isExact], [20, false]);
  pages.want(10, 19);
  await loaded();
  assert.deepEqual([pages.total, pages.isExact], [25, false]);
  pages.want(20, 24);
  await loaded();
  assert.deepEqual([pages.total, pages.isExact], [25, true]);
});

test("a page that scrolls out of sight is not waited for", async () => {
  const signals = [];
  const never = (_offset, _top, signal) => {
    signals.push(signal);
    return new Promise(() => {});
  };
  const pages = new Pages(never, { top: 10, changed: () => {}, failed: () => {} });
  pages.want(0, 5);
  pages.want(40, 45);
  assert.deepEqual(
    signals.map((signal) => signal.aborted),
    [true, false],
  );
  pages.close();
  assert.ok(signals[1].aborted);
});

test("after a failure nothing is loaded until the next try", async () => {
  const failures = [];
  let isBroken = true;
  const fetchPage = async () => {
    if (isBroken) throw new Error("gone");
    return { items: [1], total: 1 };
  };
  const pages = new Pages(fetchPage, { top: 10, changed: () => {}, failed: (error) => failures.push(error.message) });
  pages.want(0, 5);
  await loaded();
  pages.want(0, 5);
  await loaded();
  assert.deepEqual(failures, ["gone"]);
  isBroken = false;
  pages.retry();
  pages.want(0, 5);
  await loaded();
  assert.equal(pages.get(0), 1);
});

test("old pages are forgotten, the last used ones stay", async () => {
  const { pages, asked } = numbers(1000);
  for (let first = 0; first < 500; first += 10) {
    pages.want(0, 0); // the first page stays in use
    pages.want(first, first);
    await loaded();
  }
  assert.ok(pages.pages.size <= 40);
  assert.equal(pages.get(0), 0);
  assert.equal(pages.get(10), undefined);
  assert.equal(new Set(asked).size, asked.length);
});

test("a complete list has the same methods", () => {
  const list = new Listed(["a", "b"]);
  assert.deepEqual([list.total, list.isExact, list.get(1), list.get(2)], [2, true, "b", undefined]);
});

test("items are collected over pages that are not loaded, and to the end of a list", async () => {
  const { pages, asked } = numbers(2500);
  pages.want(0, 25);
  await loaded();
  assert.deepEqual(await pages.collect(5, 12), [5, 6, 7, 8, 9, 10, 11, 12]);
  assert.deepEqual(asked, [0, 10, 20]); // they were there
  const all = await pages.collect(0, 9999);
  assert.deepEqual([all.length, all[0], all.at(-1)], [2500, 0, 2499]);
  assert.deepEqual(asked.slice(3), [30, 1030, 2030]);
  const folded = numbers(2500, { ends: true });
  assert.equal((await folded.pages.collect(0, 9999)).length, 2500);
  assert.deepEqual(await new Listed([7, 8, 9]).collect(1, 9), [8, 9]);
});

test("a loaded item is found by its id", async () => {
  const fetchPage = async (offset, top) => ({
    items: Array.from({ length: top }, (_, n) => ({ id: 1000 - offset - n })),
    total: 100,
  });
  const pages = new Pages(fetchPage, { top: 10, changed: () => {}, failed: () => {} });
  pages.want(0, 25);
  await loaded();
  assert.deepEqual([pages.find(985), pages.find(1), pages.find(1000)], [15, -1, 0]);
  assert.equal(new Listed([{ id: 4 }, { id: 6 }]).find(6), 1);
});
