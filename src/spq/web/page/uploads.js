/** Pictures that were given, kept by this browser so that a reload has them. They leave it only for a search. */

const KEPT = 24;
const memory = new Map(); // name -> {blob, url}; all there is where the browser keeps nothing

function opened() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("spq-uploads", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("pictures");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function within(mode, work) {
  const base = await opened();
  try {
    const store = base.transaction("pictures", mode).objectStore("pictures");
    return await new Promise((resolve, reject) => {
      const request = work(store);
      store.transaction.oncomplete = () => resolve(request?.result);
      store.transaction.onabort = () => reject(store.transaction.error);
    });
  } finally {
    base.close();
  }
}

/** Keep a picture; returns its name. The oldest ones go. */
export async function keep(blob) {
  const random = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  const name = `u-${Date.now().toString(36)}${random}`; // names sort by age
  memory.set(name, { blob, url: URL.createObjectURL(blob), title: blob.name ?? "a pasted picture" });
  try {
    await within("readwrite", (store) => store.put({ blob, title: blob.name ?? "a pasted picture" }, name));
    const names = await within("readonly", (store) => store.getAllKeys());
    const old = names.sort().slice(0, -KEPT);
    if (old.length) await within("readwrite", (store) => old.map((key) => store.delete(key)).at(-1));
  } catch {
    // a private window, or a full disk: kept until the page is closed
  }
  return name;
}

/** @returns {blob, url, title}, or null where this browser does not have it. */
export async function find(name) {
  if (!memory.has(name)) {
    const kept = await within("readonly", (store) => store.get(name)).catch(() => null);
    if (!kept) return null;
    memory.set(name, { ...kept, url: URL.createObjectURL(kept.blob) });
  }
  return memory.get(name);
}

export const isUpload = (name) => typeof name === "string";
