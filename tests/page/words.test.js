/** The texts of the page: complete in each language, all used, and none in the modules themselves. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { words as english } from "../../src/spq/web/page/words_en.js";

const PAGE = new URL("../../src/spq/web/page/", import.meta.url);
const OTHERS = readdirSync(PAGE).flatMap((name) => name.match(/^words_(?!en)(\w+)\.js$/)?.[1] ?? []); // beside English
const MODULES = Object.fromEntries(
  readdirSync(PAGE)
    .filter((name) => name.endsWith(".js") && !name.startsWith("words"))
    .map((name) => [name, readFileSync(new URL(name, PAGE), "utf8")]),
);
const LOADER = readFileSync(new URL("words.js", PAGE), "utf8");
const TEXTS = readFileSync(new URL("words_en.js", PAGE), "utf8"); // one text may use another
const HTML = readFileSync(new URL("index.html", PAGE), "utf8");
const LANGUAGES = [...HTML.matchAll(/name="language" value="\w+">([^<]+)</g)].map((match) => match[1]);

/** Every name with what is there: "function(2)", "string", or the names of an object. */
function shape(texts, path = "") {
  return Object.entries(texts).flatMap(([name, value]) => {
    const here = `${path}${name}`;
    if (typeof value === "object") return shape(value, `${here}.`);
    return typeof value === "function" ? `${here}(${value.length})` : here;
  });
}

const names = Object.entries(english).flatMap(([section, texts]) =>
  Object.keys(texts).map((name) => `${section}.${name}`),
);

for (const language of OTHERS) {
  test(`${language} has every text of English, with the same parts, and can be chosen`, async () => {
    const { words } = await import(new URL(`words_${language}.js`, PAGE).href);
    const own = shape(words).filter((name) => !name.startsWith("copies.reasons.")); // English ones come from the server
    assert.deepEqual(own.toSorted(), shape(english).toSorted());
    assert.ok(MODULES["theme.js"].includes(`"${language}"`), "theme.js does not name it");
    assert.ok(LOADER.includes(`import("./words_${language}.js")`), "words.js does not load it");
    assert.ok(HTML.includes(`name="language" value="${language}"`), "the menu in index.html lacks it");
  });
}

/** Uses such as texts.keep after `const texts = words.copies`. */
function usedByOtherName(code) {
  return [...code.matchAll(/(\w+) = words\.(\w+);/g)].flatMap(([, other, section]) =>
    [...code.matchAll(new RegExp(`\\b${other}\\.(\\w+)`, "g"))].map(([, name]) => ["", section, name]),
  );
}

test("every text is used, and every text that is used is there", () => {
  const used = new Set(
    [
      ...HTML.matchAll(/data-words(?:-\w+)?="([\w.]+)"/g),
      ...HTML.matchAll(/data-(why)="(\w+)"/g),
      ...[TEXTS, ...Object.values(MODULES)].flatMap((code) => [...code.matchAll(/\bwords\.(\w+\.\w+)/g)]),
      ...Object.values(MODULES).flatMap(usedByOtherName),
    ].map((match) => match.slice(1).join(".")),
  );
  const sections = Object.values(MODULES).flatMap((code) =>
    [...code.matchAll(/\bwords\.(\w+)\[/g)].map(([, name]) => name),
  );
  assert.deepEqual(
    [...used].filter((name) => !names.includes(name)),
    [],
  );
  assert.deepEqual(
    names.filter((name) => !used.has(name) && name !== "selection.many" && !sections.includes(name.split(".")[0])),
    [],
  );
});

const ENGLISH = ["filter_language.js"]; // errors of a filter, as the server has them

const NOT_TEXTS =
  /^(Esc|Escape|Enter|Tab|Home|End|Page(Up|Down)|Arrow(Up|Down|Left|Right)|Files|Content-Type|Retry-After|\w+Error|GET|POST)$/;

/** String literals that a user could read: they begin with a capital, or have words and an end of a sentence. */
function texts(code) {
  const bare = code.replace(/\/\*[\s\S]*?\*\/|(^|\s)\/\/.*|class: (`[^`]*`|"[^"]*")/g, "");
  const strings = [...bare.matchAll(/"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`/g)].map((match) => match[1] ?? match[2]);
  return strings.filter((text) => {
    if (NOT_TEXTS.test(text)) return false;
    return /^[A-Z][a-z]/.test(text) || /[a-z]+ [a-z]+[.,;:!?]( |$)/.test(text) || /[a-z]{3,} \$\{/.test(text);
  });
}

test("modules hold no text themselves", () => {
  assert.deepEqual(texts('f("button primary", "Try again", "no more here, sorry"); // "Not this"'), [
    "Try again",
    "no more here, sorry",
  ]);
  const found = Object.entries(MODULES)
    .filter(([name]) => !ENGLISH.includes(name))
    .map(([name, code]) => [name, texts(code)]);
  assert.deepEqual(
    found.filter(([, strings]) => strings.length),
    [],
  );
});

test("index.html holds no text but names of languages", () => {
  const body = HTML.slice(HTML.indexOf("<body"), HTML.indexOf("<noscript"));
  const texts = [...body.matchAll(/>([^<]+)</g)].map((match) => match[1].replaceAll(/&\w+;/g, "").trim());
  const words = texts.filter((text) => /[A-Za-z]{2}/.test(text));
  assert.deepEqual(
    words.filter((text) => text !== "spq" && !LANGUAGES.includes(text)),
    [],
  );
  assert.deepEqual(
    [...body.matchAll(/\s(?:aria-label|title|placeholder|alt)="[^"]+"/g)].map(([text]) => text),
    [],
  );
});
