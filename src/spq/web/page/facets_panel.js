/** Where the panel of facets opens. Its script and its style load when it is first opened. */

import { api } from "./api.js";
import { $, $$ } from "./dom.js";
import { loadStyle } from "./styles.js";

const panel = $("#facets");
const script = async () => (await Promise.all([import("./facets.js"), loadStyle("facets.css")]))[0];

/** Buttons with popovertarget="facets" open the panel. The browser closes it with Esc or a click elsewhere. */
export function startFacets() {
  for (const button of $$("[popovertarget=facets]")) button.hidden = !api.can.facets;
  panel.addEventListener("toggle", async (event) => {
    const { openFacets, closeFacets } = await script();
    if (event.newState === "open") openFacets(panel);
    else closeFacets();
  });
}

/** Count again when the filter has changed. */
export async function drawFacets() {
  if (panel.matches(":popover-open")) (await script()).load(panel);
}
