/** Suggestions for the next word of a filter. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { suggest } from "../../src/spq/web/page/filter_suggestions.js";
import { quoted, tokensOf } from "../../src/spq/web/page/filter_tokens.js";

const COLUMNS = [
  { name: "path", kind: "text", values: [] },
  { name: "width", kind: "number", values: [] },
  { name: "time", kind: "time", values: [] },
  { name: "label", kind: "text", values: ["shoe", "hot dog"] },
  { name: "[unit price]", kind: "number", values: [] },
];

const options = (text) => suggest(text, text.length, COLUMNS).options.map(({ insert }) => insert);

test("tokens are the whole text, in their kinds", () => {
  const text = "label='a ''b' AND[unit price]>= 5,(x) \"open";
  const tokens = tokensOf(text);
  assert.equal(tokens.map((token) => token.text).join(""), text);
  const kinds = tokens.filter(({ kind }) => kind !== "space").map(({ kind }) => kind);
  assert.equal(kinds.join(" "), "word operator quoted word own operator word mark mark word mark open");
});

test("a value gets quotes where it needs them", () => {
  assert.deepEqual(["shoe", "hot dog", "AND", 'a"b', "", "é"].map(quoted), [
    "shoe",
    '"hot dog"',
    '"AND"',
    '"a""b"',
    '""',
    "é",
  ]); // prettier-ignore
});

test("columns, operators, values and joints are suggested where they belong", () => {
  assert.deepEqual(options(""), ["path ", "width ", "time ", "label ", "[unit price] "]);
  assert.deepEqual(options("wid"), ["width "]);
  assert.deepEqual(options("label "), ["= ", "!= ", "~ ", "in ("]);
  assert.deepEqual(options("[unit price] "), [">= ", "<= ", "= ", "!= ", "< ", "> "]);
  assert.deepEqual(options("label in (shoe, "), ["shoe ", '"hot dog" ']);
  assert.deepEqual(options('label = "hot'), ['"hot dog" ']);
  assert.deepEqual(options("not (width >= 5 "), ["and ", "or "]);
  assert.deepEqual(options("width >= 5 and ti"), ["time "]);
});

test("a suggestion replaces the word before the cursor", () => {
  const text = "width > 5 and lab = x";
  assert.deepEqual(suggest(text, 17, COLUMNS), {
    start: 14,
    end: 17,
    options: [{ insert: "label ", label: "label", hint: "text" }],
  });
});
