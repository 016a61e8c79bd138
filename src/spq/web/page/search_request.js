/** From the state to what a search is asked. */

import { api } from "./api.js";
import { find, isUpload } from "./uploads.js";
import { state } from "./state.js";

/** What a result depends on. */
export const ASKED = ["like", "not", "box", "where", "fold"];

export const isAsking = () => state.like.length > 0;

/**
 * @returns {files, negativeFiles, query, missing}: as api.search has it, and how many pictures this browser has no more.
 */
export async function asked() {
  const [like, not] = await Promise.all([state.like, state.not].map((names) => Promise.all(names.filter(isUpload).map(find))));
  const query = {
    ids: state.like.filter((name) => !isUpload(name)),
    not_ids: state.not.filter((name) => !isUpload(name)),
    where: state.where || null,
    box: state.box,
    fold: state.fold,
  };
  const files = like.filter(Boolean).map((upload) => upload.blob);
  const negativeFiles = not.filter(Boolean).map((upload) => upload.blob);
  if (query.ids.length + files.length !== 1) query.box = null;
  const missing = like.length + not.length - files.length - negativeFiles.length;
  return { files, negativeFiles, query, missing };
}

/** Whether a region can be chosen: of one picture. */
export const hasOne = () => state.like.length === 1;

const known = new Map(); // id -> promise of its item

/** What is known of an item, asked for once. */
export function itemOf(id) {
  if (!known.has(id)) {
    const answer = api.item(id);
    answer.catch(() => known.delete(id));
    known.set(id, answer);
    if (known.size > 300) known.delete(known.keys().next().value);
  }
  return known.get(id);
}

/** After a change of the collection. */
export const forget = () => known.clear();
