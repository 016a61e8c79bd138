/** Ways to give a picture: drop, paste, pick. */

import { api } from "./api.js";
import { $, el, toast } from "./dom.js";
import { change, fresh, state } from "./state.js";
import { keep } from "./uploads.js";

const MOST = 16; // pictures of one search
const NO_UPLOADS = "Click any picture to find more like it. Pictures of your own need a site that was exported with onnxruntime-web.";

export function startGiving() {
  if (!api.can.upload) {
    for (const button of document.querySelectorAll("[data-give]")) button.hidden = true;
    $("#invite").replaceWith(el("p", { id: "invite", hidden: true, text: NO_UPLOADS }));
    return;
  }
  const input = $("#file");
  for (const button of document.querySelectorAll("[data-give]")) button.addEventListener("click", pick);
  input.addEventListener("change", () => {
    give([...input.files], "new");
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = pictures(event.clipboardData);
    if (!files.length) return;
    event.preventDefault();
    give(files, "new");
  });
  startDropping();
}

export const pick = () => $("#file").click();

/** @param how "new" search, or "like" or "not" in addition to what is asked. */
export async function give(files, how) {
  const usable = files.filter((file) => !file.type || file.type.startsWith("image/"));
  if (!usable.length) {
    toast(files.length === 1 ? `${files[0].name || "That"} is not a picture` : "None of these is a picture");
    return;
  }
  if (usable.length > MOST) toast(`The first ${MOST} pictures are taken`);
  const names = await Promise.all(usable.slice(0, MOST).map(keep));
  if (how === "new" || !state.like.length) change(fresh({ like: names }));
  else {
    const both = { like: state.like, not: state.not };
    change(fresh({ ...both, [how]: [...both[how], ...names].slice(0, MOST), box: how === "not" ? state.box : null }));
  }
}

function pictures(data) {
  return [...(data?.files ?? [])];
}

function startDropping() {
  const zone = $("#drop");
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let hiding;
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    clearTimeout(hiding);
    hiding = setTimeout(close, 300); // while one drags, this event comes all the time
    zone.hidden = false;
    zone.classList.toggle("asking", state.like.length > 0);
    for (const part of zone.children) part.classList.toggle("over", part === event.target.closest("[data-how]"));
  });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    const how = event.target.closest?.("[data-how]")?.dataset.how ?? "new";
    close();
    give(pictures(event.dataTransfer), how);
  });
  function close() {
    clearTimeout(hiding);
    zone.hidden = true;
  }
}
