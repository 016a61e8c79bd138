/** The ways to search with your own pictures: drop, paste, choose a file. */

import { api } from "./api.js";
import { $, $$, closest, el, toast } from "./dom.js";
import { change, newSearch, state } from "./state.js";
import { keep } from "./uploads.js";
import { words } from "./words.js";

const MOST = 16; // pictures of one search
const SLOW = 400; // ms; sending that takes longer is shown

export function startPictureInput() {
  if (!api.can.upload) {
    for (const button of $$("[data-pick]")) button.hidden = true;
    $("#invite").replaceWith(el("p", { id: "invite", hidden: true, text: words.uploads.none() }));
    return;
  }
  const input = $("#file");
  for (const button of $$("[data-pick]")) button.addEventListener("click", chooseFile);
  input.addEventListener("change", () => {
    searchWith([...input.files], "new");
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = pictures(event.clipboardData);
    if (!files.length) return;
    event.preventDefault();
    searchWith(files, "new");
  });
  startDropping();
  showSending();
}

/** Show how much of a picture was sent, if it takes a while. */
function showSending() {
  const line = $("#sending");
  let start = 0;
  api.onSending = (share) => {
    if (share === null) {
      start = 0;
      line.hidden = true;
      return;
    }
    start ||= performance.now();
    if (performance.now() - start < SLOW) return;
    line.hidden = false;
    $("#sending-bar").value = share;
    $("#sending-text").textContent = share < 1 ? words.uploads.sending(share) : words.uploads.sent();
  };
}

export const chooseFile = () => $("#file").click();

/** @param how "new" search; or "like" or "not": add the pictures to the current search. */
export function searchWith(files, how) {
  // the server decides by the content; this only spares uploads that cannot be pictures
  const usable = files.filter((file) => !/^(text|audio|video)\//.test(file.type));
  if (!usable.length) {
    toast(files.length === 1 ? words.uploads.noPicture(files[0].name) : words.uploads.noPictures());
    return;
  }
  if (usable.length > MOST) toast(words.uploads.tooMany(MOST));
  const used = usable.slice(0, MOST);
  const fit = async (blob) => (await import("./shrink.js")).fitToSend(blob, used.length);
  const names = used.map((file) => keep(file, api.can.live ? fit : undefined));
  if (how === "new" || !state.like.length) change(newSearch({ like: names }));
  else {
    const both = { like: state.like, not: state.not };
    change(
      newSearch({ ...both, [how]: [...both[how], ...names].slice(0, MOST), box: how === "not" ? state.box : null }),
    );
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
    hiding = setTimeout(close, 300); // this event repeats during a drag
    zone.hidden = false;
    zone.classList.toggle("searching", state.like.length > 0);
    for (const part of zone.children) part.classList.toggle("over", part === closest(event, "[data-how]"));
  });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    const how = closest(event, "[data-how]")?.dataset.how ?? "new";
    close();
    searchWith(pictures(event.dataTransfer), how);
  });
  function close() {
    clearTimeout(hiding);
    zone.hidden = true;
  }
}
