/**
 * All that the page asks, answered by the files of this site: the same exports as the api.js that asks `spq serve`.
 */

import { settings } from "./static/settings.js"; // written by the export: what this site has
import { Source } from "./static/source.js";

/** kind: "refused" (what was asked cannot be done) or "gone" (a file of the site does not come). */
export class ApiError extends Error {
  constructor(detail, kind) {
    super(detail);
    this.kind = kind;
    this.status = 0;
  }
}

let source = null;

/** What `ask` gives, of the source. A search that nobody waits for any more is not cut off, but nobody hears of it. */
async function answered(ask, signal) {
  signal?.throwIfAborted();
  try {
    source ??= new Source();
    const answer = await ask(await source.opened());
    signal?.throwIfAborted();
    return answer;
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw new ApiError(error.message, error.isRefusal ? "refused" : "gone");
  }
}

export const api = {
  can: {
    upload: settings.upload,
    box: settings.upload,
    filter: true,
    fold: true,
    explain: true,
    codewords: true,
    duplicates: settings.duplicates,
    map: true,
    original: false,
    live: false,
    orders: ["id", "path", "time", "new"],
    top: 1000,
  },

  status: (signal) => answered((from) => from.status(), signal),
  search: (asked, signal) => answered((from) => from.search(asked), signal),
  browse: (params, signal) => answered((from) => from.browse(params), signal),
  item: (id, signal) => answered((from) => from.item(id), signal),
  explain: (asked, signal) => answered((from) => from.explain(asked), signal),
  codewords: (signal) => answered((from) => from.codewords(), signal),
  codeword: (m, k, params, signal) => answered((from) => from.codeword(m, k, params), signal),
  duplicates: (signal) => answered((from) => from.duplicates(), signal),
  map: (params, signal) => answered((from) => from.map(params), signal),

  /** Of an item that was handed out, or is on the map. There is one size. */
  thumbnailURL: (id) => source?.thumbnailURL(id) ?? "",
  imageURL: (id) => source?.thumbnailURL(id) ?? "",
};
