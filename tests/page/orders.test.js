/** The orders of all pictures, as the address has them. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { api } from "../../src/spq/web/page/api.js";
import { browseInOrder, choiceOf } from "../../src/spq/web/page/orders.js";

test("an order that is not offered here is the first one", async () => {
  api.can = { ...api.can, orders: ["id", "path", "random"] };
  api.browse = async (params) => params;
  const asked = async (order) => {
    const { order: name, seed } = await browseInOrder({ order, top: 1 }, new AbortController().signal, () => {});
    return [choiceOf(order), name, seed];
  };
  assert.deepEqual(await asked("unusual"), ["id", "", undefined]);
  assert.deepEqual(await asked("path"), ["path", "path", undefined]);
  assert.deepEqual(await asked("random-17"), ["random", "random", "17"]);
  assert.deepEqual(await asked("random-x"), ["random", "random", undefined]);
  assert.deepEqual(await asked(""), ["id", "", undefined]);
});
