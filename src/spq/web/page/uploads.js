/** The user's pictures, kept in this browser so that they survive a reload. They are sent only for a search. */

import { words } from "./words.js";

const KEPT = 24;
/** name -> promise of its upload; the only copy if the browser stores nothing */
const memory = new Map();
/** Blob -> its upload, {name, blob, url, title, key}. key: the server's name of the picture, once it was sent */
const uploads = new WeakMap();

function openDatabase() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("spq-uploads", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("pictures");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function transaction(mode, work) {
  const database = await openDatabase();
  try {
    const store = database.transaction("pictures", mode).objectStore("pictures");
    return await new Promise((resolve, reject) => {
      const request = work(store);
      store.transaction.oncomplete = () => resolve(request?.result);
      store.transaction.onabort = () => reject(store.transaction.error);
    });
  } finally {
    database.close();
  }
}

/**
 * Keep a picture and return its name, at once. Delete the oldest ones.
 * @param {File|Blob} blob
 * @param {(blob: Blob) => Promise<Blob>} prepare makes what is kept and sent: the picture itself, or a smaller one
 */
export function keep(blob, prepare = async (same) => same) {
  const random = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  const name = `u-${Date.now().toString(36)}${random}`; // names sort by age
  const title = ("name" in blob && blob.name) || words.uploads.pasted();
  const made = prepare(blob)
    .catch(() => blob) // what makes it smaller could not be loaded
    .then((ready) => opened(name, { blob: ready, title }));
  memory.set(name, made);
  made.then(store);
  return name;
}

function opened(name, { blob, title, key = null }) {
  const upload = { name, blob, title, key, url: URL.createObjectURL(blob) };
  uploads.set(blob, upload);
  return upload;
}

async function store({ name, blob, title, key }) {
  try {
    await transaction("readwrite", (kept) => kept.put({ blob, title, key }, name));
    const names = await transaction("readonly", (kept) => kept.getAllKeys());
    const old = names.sort().slice(0, -KEPT);
    if (old.length) await transaction("readwrite", (kept) => old.map((one) => kept.delete(one)).at(-1));
  } catch {
    // in a private window or on a full disk: kept until the page is closed
  }
}

/**
 * A picture, or null if this browser does not have it.
 * @returns {Promise<{blob: Blob, url: string, title: string} | null>}
 */
export async function find(name) {
  if (!memory.has(name)) {
    const kept = await transaction("readonly", (pictures) => pictures.get(name)).catch(() => null);
    if (!kept) return null;
    if (!memory.has(name)) memory.set(name, Promise.resolve(opened(name, kept)));
  }
  return memory.get(name);
}

/** The server's name of a picture; null if it was not sent yet. */
export const keyOf = (blob) => uploads.get(blob)?.key ?? null;

/** Note the server's name of a picture, or null if the server does not know it any more. */
export function setKey(blob, key) {
  const upload = uploads.get(blob);
  if (!upload || upload.key === key) return;
  upload.key = key;
  store(upload);
}

export const isUpload = (name) => typeof name === "string";
