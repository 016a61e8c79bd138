/** The selection: what is selected, the limit, undo; the table of it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { toCSV } from "../../src/spq/web/page/csv.js";
import { Selection, spread } from "../../src/spq/web/page/selection.js";

const entries = (...ids) => ids.map((id) => ({ id }));

test("pictures keep the order in which they were selected, and each step can be undone", () => {
  const selection = new Selection();
  let told = 0;
  selection.onChange(() => told++);
  selection.add(entries(5, 3));
  selection.toggle({ id: 9 });
  selection.toggle({ id: 5 });
  assert.deepEqual([selection.ids, selection.size, selection.has(3), selection.has(5)], [[3, 9], 2, true, false]);
  selection.clear();
  assert.equal(selection.size, 0);
  selection.undo();
  assert.deepEqual(selection.ids, [3, 9]);
  selection.undo();
  assert.deepEqual(selection.ids, [5, 3, 9]);
  selection.undo();
  selection.undo();
  assert.deepEqual([selection.ids, selection.canUndo], [[], false]);
  assert.equal(told, 8);
  selection.add([]);
  selection.undo();
  assert.equal(told, 8); // nothing has changed
});

test("a selection has a limit, and says how many were left out", () => {
  const selection = new Selection(3);
  assert.equal(selection.add(entries(1, 2)), 0);
  assert.equal(selection.add(entries(2, 3, 4, 5)), 2);
  assert.deepEqual(selection.ids, [1, 2, 3]);
});

test("a rubber band is one step, however often it moves", () => {
  const selection = new Selection();
  selection.add(entries(1));
  const base = selection.items;
  for (const ids of [[2], [2, 3], [2, 3, 4], [2]]) selection.preview(base, entries(...ids));
  selection.commit(base);
  assert.deepEqual(selection.ids, [1, 2]);
  selection.undo();
  assert.deepEqual(selection.ids, [1]);
});

test("distances stay with the pictures until the search is another one", () => {
  const selection = new Selection();
  selection.add([{ id: 1, distance: 0.5 }, { id: 2 }]);
  selection.add(entries(1));
  assert.deepEqual([...selection.items.values()], [0.5, null]);
  selection.forgetDistances();
  assert.deepEqual([...selection.items.values()], [null, null]);
});

test("a selection survives as text, and any other text is none", () => {
  const selection = new Selection();
  selection.add([{ id: 7, distance: 1.5 }, { id: 2 }]);
  const again = new Selection();
  again.restore(selection.toText());
  assert.deepEqual([...again.items], [...selection.items]);
  assert.equal(again.canUndo, false);
  for (const text of [null, "", "{", '{"a":1}', '[["x",1],[-1,2]]', "[1]", "null"]) {
    again.restore(text);
    assert.equal(again.size, 0, text ?? "null");
  }
});

test("some of many are evenly spread", () => {
  const values = Array.from({ length: 100 }, (_, n) => n);
  assert.deepEqual(spread(values, 4), [0, 25, 50, 75]);
  assert.deepEqual(spread([1, 2], 4), [1, 2]);
});

test("a table quotes what needs it, and no spreadsheet runs its texts", () => {
  const rows = [
    { path: 'a "b", c.jpg', note: "=1+1", n: -5 },
    { path: "Größe.jpg", note: "-3.5", n: null },
    { path: "two\nlines", note: "@x" },
  ];
  assert.equal(
    toCSV(["path", "note", "n"], rows),
    '\ufeffpath,note,n\r\n"a ""b"", c.jpg",\'=1+1,-5\r\nGröße.jpg,-3.5,\r\n"two\nlines",\'@x,\r\n',
  );
});
