/**
 * The api.js of a static site: it answers all requests of the page from files. Same exports as the page's api.js.
 */

import { settings } from "./static/settings.js"; // written by the export: what this site offers
import { Source } from "./static/source.js";

/** kind: "refused" (the request is invalid) or "fault" (a file of the site does not load). */
export class ApiError extends Error {
  constructor(detail, kind) {
    super(detail);
    this.kind = kind;
    this.status = 0;
  }
}

/** @type {Source?} */
let source = null;

/** Return what `request` returns for the source. An aborted search still runs, but its result is dropped. */
async function answered(request, signal) {
  signal?.throwIfAborted();
  try {
    source ??= new Source();
    const answer = await request(await source.opened());
    signal?.throwIfAborted();
    return answer;
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw new ApiError(error.message, error.isRefusal ? "refused" : "fault");
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
    review: false, // visitors do not have the files
    map: true,
    mapValues: false,
    facets: false,
    original: false,
    zip: false, // a site has no originals, and thumbnails in a ZIP would be taken for them
    live: false,
    orders: ["id", "path", "time", "new", ...(settings.unusual ? ["unusual"] : []), "random"],
    top: 1000,
  },

  status: (signal) => answered((from) => from.status(), signal),
  search: (query, signal) => answered((from) => from.search(query), signal),
  browse: (params, signal) => answered((from) => from.browse(params), signal),
  item: (id, signal) => answered((from) => from.item(id), signal),
  explain: (query, signal) => answered((from) => from.explain(query), signal),
  bands: (signal) => answered((from) => from.bands(), signal),
  codewords: (params, signal) => answered((from) => from.codewords(params), signal),
  codeword: (m, k, params, signal) => answered((from) => from.codeword(m, k, params), signal),
  duplicates: (params, signal) => answered((from) => from.duplicates(params), signal),
  facets: async () => ({ total: 0, facets: [] }),
  mapValues: async () => ({}),
  mapProgress: async () => ({ arranging: null }),
  map: (params, signal) => answered((from) => from.map(params), signal),

  /** The thumbnail of an item that was loaded or is on the map. There is one size. */
  thumbnailURL: (id) => source?.thumbnailURL(id) ?? "",
  imageURL: (id) => source?.thumbnailURL(id) ?? "",
  downloadURL: () => "",
  zipURL: () => "",
  facts: (ids, signal) => answered(async (from) => ({ items: await from.items(ids), missing: [] }), signal),
  showFolder: async () => {},
};
