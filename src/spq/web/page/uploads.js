/** The user's pictures, kept in this browser so that they survive a reload. They are sent only for a search. */

const KEPT = 24;
const memory = new Map(); // name -> {blob, url}; the only copy if the browser stores nothing

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

/** Keep a picture and return its name. Delete the oldest ones. */
export async function keep(blob) {
  const random = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  const name = `u-${Date.now().toString(36)}${random}`; // names sort by age
  memory.set(name, { blob, url: URL.createObjectURL(blob), title: blob.name ?? "a pasted picture" });
  try {
    await transaction("readwrite", (store) => store.put({ blob, title: blob.name ?? "a pasted picture" }, name));
    const names = await transaction("readonly", (store) => store.getAllKeys());
    const old = names.sort().slice(0, -KEPT);
    if (old.length) await transaction("readwrite", (store) => old.map((key) => store.delete(key)).at(-1));
  } catch {
    // in a private window or on a full disk: kept until the page is closed
  }
  return name;
}

/**
 * A picture, or null if this browser does not have it.
 * @returns {Promise<{blob: Blob, url: string, title: string} | null>}
 */
export async function find(name) {
  if (!memory.has(name)) {
    const kept = await transaction("readonly", (store) => store.get(name)).catch(() => null);
    if (!kept) return null;
    memory.set(name, { ...kept, url: URL.createObjectURL(kept.blob) });
  }
  return memory.get(name);
}

export const isUpload = (name) => typeof name === "string";
