/** What can be done with the selected pictures: copy their paths, save a table, download them. */

import { api } from "./api.js";
import { toCSV } from "./csv.js";
import { el } from "./dom.js";
import { selection } from "./selection.js";

const AT_ONCE = 1000; // facts in one request
/** @type {{of: any, items: Promise<any[]>} | null} */
let known = null; // facts of the last selection

/** Facts of the selected pictures in their order, without those that are no longer in the index. */
export function chosenItems() {
  const of = selection.items;
  if (known?.of !== of) {
    const items = load(selection.ids);
    known = { of, items };
    items.catch(() => (known = null));
  }
  return known.items;
}

/** Read facts again, after a change of the collection. */
export const forgetChosen = () => {
  known = null;
};

async function load(/** @type {number[]} */ ids) {
  const items = [];
  for (let at = 0; at < ids.length; at += AT_ONCE) items.push(...(await api.facts(ids.slice(at, at + AT_ONCE))).items);
  return items;
}

/** The absolute path of a picture; in the collection, if the server tells no more. */
export const pathOf = (/** @type {any} */ item) => item.location ?? item.path;

/** The selected pictures as a table. */
export async function chosenTable() {
  const items = await chosenItems();
  const own = [...new Set(items.flatMap((item) => Object.keys(item.metadata ?? {})))].sort();
  const rows = items.map((item) => ({
    ...item.metadata,
    path: item.path,
    "absolute path": item.location,
    label: item.label,
    distance: selection.items.get(item.id),
    bytes: item.size,
    changed: item.time,
    width: item.width,
    height: item.height,
  }));
  const all = ["path", "absolute path", "label", "distance", "bytes", "changed", "width", "height"];
  const used = all.filter((name) => rows.some((row) => row[name] !== null && row[name] !== undefined));
  return toCSV([...used, ...own.filter((name) => !all.includes(name))], rows);
}

/** Let the browser save a text as a file. */
export function save(/** @type {string} */ text, /** @type {string} */ name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A form asks for the ZIP, so that the browser saves it while it arrives. */
export function downloadZip() {
  const ids = el("input", { name: "ids", value: selection.ids.join(",") });
  const form = el("form", { action: api.zipURL(), method: "post", hidden: true }, ids);
  document.body.append(form);
  form.submit();
  form.remove();
}
