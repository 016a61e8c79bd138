/** The state in the address bar. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { address, newSearch, parse, state, toHash } from "../../src/spq/web/page/state.js";

test("a state survives its way through the address", () => {
  const hash =
    "like=17,u-4k2j&not=9&plus=3&minus=5&box=10,10,80,60&where=width >= 640 or path ~ *.jpg&max=1.5&fold=1" +
    "&item=7&at=400&map=0.1,-0.2,3&lasso=0,0,1,0,1,1&book=2&word=5&view=map&order=path&since=0&kind=edited";
  const there = parse(`#${hash}`);
  assert.deepEqual(there.like, [17, "u-4k2j"]);
  assert.equal(there.where, "width >= 640 or path ~ *.jpg");
  assert.deepEqual([there.max, there.fold, there.since], [1.5, true, 0]);
  assert.deepEqual(parse(toHash(there)), there);
});

test("nonsense in an address is ignored", () => {
  const there = parse("#view=nowhere&like=x,-1,1e3,u-A&max=many&box=1,2,3&item=-4&lasso=1,2&at=&word=9.5&fold=yes");
  assert.deepEqual(there, parse(""));
  assert.equal(toHash(there), "");
});

test("only what differs from the start is in the address", () => {
  assert.equal(address({ like: [1, 2] }), "#like=1,2");
  assert.equal(address({ at: 0, word: null }), "#");
  assert.equal(parse(`#where=${"x".repeat(5000)}`).where.length, 4000);
});

test("a new search keeps the filter and nothing else of the last one", () => {
  Object.assign(state, parse("#like=4&where=width > 5&fold=1&max=3&at=20&item=9&view=map"));
  assert.equal(toHash(newSearch({ like: [6] })), "like=6&where=width+%3E+5&fold=1");
});
