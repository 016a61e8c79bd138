/** The request of a search, from the state; and the items of the collection. */

import { api } from "./api.js";
import { find, isUpload } from "./uploads.js";
import { state } from "./state.js";

/** Names in the state on which a result depends. */
export const SEARCH_STATE = ["like", "not", "box", "where", "fold"];

export const isSearching = () => state.like.length > 0;

/** What tells one search from another; empty without a search. */
export const searchKey = () => (isSearching() ? JSON.stringify(SEARCH_STATE.map((name) => state[name])) : "");

/**
 * The arguments of api.search, and how many uploads this browser no longer has.
 * @returns {Promise<{files: Blob[], negativeFiles: Blob[], query: Query, missing: number}>}
 */
export async function searchRequest() {
  const query = {
    ids: state.like.filter((name) => !isUpload(name)),
    not_ids: state.not.filter((name) => !isUpload(name)),
    where: state.where || null,
    box: state.box,
    fold: state.fold,
  };
  // the state may be another one after this
  const [like, not] = await Promise.all(
    [state.like, state.not].map((names) => Promise.all(names.filter(isUpload).map(find))),
  );
  const files = like.flatMap((upload) => upload?.blob ?? []);
  const negativeFiles = not.flatMap((upload) => upload?.blob ?? []);
  if (query.ids.length + files.length !== 1) query.box = null;
  const missing = like.length + not.length - files.length - negativeFiles.length;
  return { files, negativeFiles, query, missing };
}

/** Whether the search has one picture. Only then a region can be chosen. */
export const hasOnePicture = () => state.like.length === 1;

const known = new Map(); // id -> promise of its item

/** Load an item, once. */
export function loadItem(id) {
  if (!known.has(id)) {
    const answer = api.item(id);
    answer.catch(() => known.get(id) === answer && known.delete(id));
    known.set(id, answer);
    if (known.size > 300) known.delete(known.keys().next().value);
  }
  return known.get(id);
}

/** Load items again after a change of the collection. */
export const forgetItems = () => known.clear();
