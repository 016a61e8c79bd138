/**
 * All requests of the page. This module sends them to the server. A static site has another api.js with the same
 * exports, `api` and `ApiError`. Methods whose names end in URL return an address. All others are async and throw an
 * ApiError, or the AbortError of the signal that most of them take as their last argument.
 * types.d.ts describes what they take and return.
 */

import { words } from "./words.js";

const OTHER_SITE = "urn:spq:other-site"; // a proxy shows the page under a name that the server does not know
const PATIENCE = 6; // tries while the server is busy
const LONGEST_WAIT = 10; // seconds; if a busy server asks for a longer wait, the request fails

export class ApiError extends Error {
  /**
   * @param {string} detail
   * @param {string} kind "refused" (the request is invalid), "token", "missing", "busy", "gone" (no answer), "fault",
   *   or "proxy" (the server does not know the address of the page)
   * @param {string} type names the error among those of the same status; mostly empty
   */
  constructor(detail, kind, status = 0, type = "") {
    super(detail);
    this.kind = kind;
    this.status = status;
    this.type = type;
  }
}

const KINDS = { 401: "token", 404: "missing", 503: "busy", 500: "fault", 502: "gone", 504: "gone" };

export const api = {
  /** What the page may offer. orders: of browse. top: most hits of one call. */
  can: {
    upload: true,
    box: true, // regions of uploads and of items
    filter: true, // `where`
    fold: true,
    explain: true,
    codewords: true,
    duplicates: true,
    review: true, // decisions about duplicates
    map: true,
    mapValues: true, // columns that colour the map
    facets: true,
    original: true, // imageURL gives the original, downloadURL its file
    zip: true, // zipURL
    live: true, // status changes while the page is open
    orders: ["id", "path", "time", "new", "unusual", "random"],
    top: 1000,
  },

  /** Called while pictures are sent, with the share from 0 to 1, and with null afterwards. */
  onSending: (/** @type {number?} */ _share) => {},

  /** @returns {Promise<Status>} */
  status(/** @type {AbortSignal?} */ signal = null) {
    return get("api/status", {}, signal);
  },

  /**
   * The total ignores max_distance and fold.
   * @param {Question} question
   * @returns {Promise<{hits: Hit[], compared: Compared, total: number, seconds: number, generation: number}>}
   */
  search({ files = [], negativeFiles = [], query }, /** @type {AbortSignal?} */ signal = null) {
    return post("api/search", files, negativeFiles, query, signal);
  },

  /**
   * @param {{offset?: number, top?: number, where?: string, order?: string, seed?: string, since?: number?}} params
   * @returns {Promise<any>} {items: [Item], total, generation}; or {state: "computing", stage, done, total}: try again
   */
  browse(params, /** @type {AbortSignal?} */ signal = null) {
    return get("api/browse", params, signal);
  },

  /** @returns {Promise<Item>} */
  item(id, /** @type {AbortSignal?} */ signal = null) {
    return get(`api/items/${id}`, {}, signal);
  },

  /**
   * What each codebook adds to the distance of the item `id`.
   * @param {Question & {id: number}} question
   * @returns {Promise<{total: number, parts: Part[]}>}
   */
  explain({ files = [], negativeFiles = [], query, id }, /** @type {AbortSignal?} */ signal = null) {
    return post("api/explain", files, negativeFiles, { ...query, id }, signal);
  },

  /**
   * What distances mean in this collection; while it is not known yet, how far the calibration is.
   * @returns {Promise<{bands: Bands | null} | {state: string}>}
   */
  bands(/** @type {AbortSignal?} */ signal = null) {
    return get("api/bands", {}, signal);
  },

  /**
   * How many pictures use each codeword.
   * @param {{where?: string}} params
   * @returns {Promise<{codebooks: number, codewords: number, counts: number[][]}>}
   */
  codewords(params, /** @type {AbortSignal?} */ signal = null) {
    return get("api/codewords", params, signal);
  },

  /**
   * The pictures that use a codeword, the most typical first.
   * @param {number} m
   * @param {number} k
   * @param {{offset?: number, top?: number, where?: string}} params
   * @returns {Promise<{m: number, k: number, count: number, items: Item[]}>}
   */
  codeword(m, k, params, /** @type {AbortSignal?} */ signal = null) {
    return get(`api/codewords/${m}/${k}`, params, signal);
  },

  /**
   * A page of the groups of copies; or {state: "computing", stage, done, total, ...}: ask again.
   * @param {{kind?: string[], state?: string, as_of?: number, where?: string, offset?: number, top?: number}} params
   * @returns {Promise<any>} {groups, total, revision, progress, ...}
   */
  duplicates(params = {}, /** @type {AbortSignal?} */ signal = null) {
    return get("api/duplicates", params, signal);
  },

  /**
   * @param {{since: number, where: string?}} params
   * @returns {Promise<any>} the decisions that are newer than a revision
   */
  reviewChanges(params, /** @type {AbortSignal?} */ signal = null) {
    return get("api/duplicates/changes", params, signal);
  },

  /**
   * @param {{decisions: any[], since: number, where: string?}} ask decisions: [{key, choice, keep, seen}]
   * @returns {Promise<any>} {revision, progress, changed: [{key, decision}], reload, batch, overwritten}
   */
  decide(ask, /** @type {AbortSignal?} */ signal = null) {
    return postJson("api/duplicates/decisions", ask, signal);
  },

  /**
   * @param {{batch: number, since: number, where: string?}} ask
   * @returns {Promise<any>} as decide
   */
  undoDecisions(ask, /** @type {AbortSignal?} */ signal = null) {
    return postJson("api/duplicates/undo", ask, signal);
  },

  /**
   * @param {any} ask {rule, kinds, folder, where, dry, since}
   * @returns {Promise<any>} {open, groups, pictures, bytes}, and as decide
   */
  copyRule(ask, /** @type {AbortSignal?} */ signal = null) {
    return postJson("api/duplicates/rule", ask, signal);
  },

  copiesListURL() {
    return "api/duplicates/decisions.csv";
  },

  copiesScriptURL() {
    return "api/duplicates/move.sh";
  },

  /**
   * The value of each picture on the map in a column.
   * @returns {Promise<any>} {kind, ids, values, names, counts, low, high}; or {state: "computing", ...}: try again
   */
  async mapValues(column, /** @type {AbortSignal?} */ signal = null) {
    const { ids, values, ...rest } = await get("api/map/values", { column }, signal);
    if (rest.state === "computing") return rest;
    const kind = rest.kind === "text" ? Uint8Array : Float32Array;
    return { ...rest, ids: new Int32Array(bytes(ids)), values: new kind(bytes(values)) };
  },

  /**
   * How many pictures have each value of each column.
   * @param {{where?: string}} params
   * @returns {Promise<any>} {total, facets: [{name, values: [{text, count, chosen, where}], more}]}; or computing
   */
  facets(params, /** @type {AbortSignal?} */ signal = null) {
    return get("api/facets", params, signal);
  },

  /** @returns {Promise<{arranging: any}>} {state, stage, done, total}; null when the map is arranged by neighbours */
  mapProgress(/** @type {AbortSignal?} */ signal = null) {
    return get("api/map/progress", {}, signal);
  },

  /**
   * @param {{where?: string, method?: string}} params method: pca, or the best one if empty
   * @returns {Promise<any>} {ids: Int32Array, x and y: Float32Array, count, total, method, arranging}
   */
  async map(params, /** @type {AbortSignal?} */ signal = null) {
    const { ids, x, y, ...rest } = await get("api/map", params, signal);
    return { ...rest, ids: new Int32Array(bytes(ids)), x: new Float32Array(bytes(x)), y: new Float32Array(bytes(y)) };
  },

  /** size: pixels of the longer side; the picture may be somewhat larger. */
  thumbnailURL(id, size = 256) {
    return `api/items/${id}/thumbnail?size=${size}`;
  },

  imageURL(id) {
    return `api/items/${id}/image`;
  },

  /** The file itself, which the browser saves under its own name. */
  downloadURL(/** @type {number} */ id) {
    return `api/items/${id}/download`;
  },

  /** Address that answers a form with `ids` (with commas in between) with a ZIP. */
  zipURL() {
    return "api/items/zip";
  },

  /**
   * Facts of up to 1000 items.
   * @param {number[]} ids
   * @returns {Promise<{items: Item[], missing: number[]}>}
   */
  facts(ids, /** @type {AbortSignal?} */ signal = null) {
    return postJson("api/items/facts", { ids }, signal);
  },

  /** Open the folder of an item on this machine; only if the item says `can_show`. */
  showFolder(/** @type {number} */ id) {
    return postJson(`api/items/${id}/show`, null, null);
  },
};

function get(path, params, signal) {
  const values = Object.entries(params)
    .flatMap(([name, value]) => (Array.isArray(value) ? value.map((each) => [name, each]) : [[name, value]]))
    .filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(values).toString();
  return fetchJson(query ? `${path}?${query}` : path, { signal });
}

/** Send a request; what sends pictures loads with the first of them. */
async function post(path, files, negativeFiles, query, signal) {
  if (!files.length && !negativeFiles.length) return postJson(path, query, signal);
  const sending = await import("./sending.js").catch(() => {
    throw new ApiError(words.api.gone, "gone");
  });
  const send = (parts, stop) => postParts(path, parts, query, stop, sending.fetchWithProgress);
  return sending.sendOnce(files, negativeFiles, send, signal);
}

async function postParts(path, { files, negativeFiles, names }, query, signal, fetchWithProgress) {
  const named = Object.fromEntries(Object.entries(names).filter(([, list]) => list.length));
  const content = { ...query, ...named };
  if (!files.length && !negativeFiles.length) return postJson(path, content, signal);
  const body = new FormData();
  for (const file of files) body.append("image", file, "image");
  for (const file of negativeFiles) body.append("negative_image", file, "image");
  body.append("query", JSON.stringify(content));
  const sending = (address, options) => fetchWithProgress(address, options, api.onSending);
  try {
    return await fetchJson(path, { body, signal }, sending);
  } finally {
    api.onSending(null);
  }
}

function postJson(path, content, signal) {
  const headers = { "Content-Type": "application/json" };
  return fetchJson(path, { method: "POST", headers, body: JSON.stringify(content), signal });
}

/**
 * Return the JSON of an answer. If the server is busy, try again after the time that it names, and a little more each
 * time.
 * @param {string} path
 * @param {RequestInit} options
 * @param {(path: string, options: RequestInit) => Promise<Response>} fetcher
 */
async function fetchJson(path, options, fetcher = fetch) {
  for (let attempt = 1; ; attempt++) {
    const response = await fetcher(path, options).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new ApiError(words.api.gone, "gone");
    });
    if (response.status === 204) return null;
    if (response.ok) return response.json().catch((error) => unreadable(error));
    const wait = Number(response.headers.get("Retry-After") ?? 1);
    if (response.status !== 503 || attempt === PATIENCE || wait > LONGEST_WAIT) throw await problem(response);
    await pause(1000 * (wait * (1 + Math.random() / 2) + attempt / 4), options.signal);
  }
}

const pageAddress = () => `${location.origin}${location.pathname}`;

async function problem(response) {
  const content = await response.json().catch(() => ({}));
  const detail = content.detail || words.api.status(`${response.status} ${response.statusText}`.trim());
  if (content.type === OTHER_SITE) return new ApiError(words.api.otherSite(pageAddress()), "proxy", response.status);
  return new ApiError(detail, KINDS[response.status] ?? "refused", response.status, content.type);
}

function unreadable(error) {
  if (error.name === "AbortError") throw error;
  throw new ApiError(words.api.incomplete, "gone");
}

/**
 * @param {number} ms
 * @param {AbortSignal | null | undefined} signal
 * @returns {Promise<void>}
 */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

function bytes(base64) {
  const text = atob(base64);
  const array = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) array[at] = text.charCodeAt(at);
  return array.buffer;
}
