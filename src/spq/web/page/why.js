/** The small question marks: each explains a word of the page where it stands. */

import { $ } from "./dom.js";
import { textOf } from "./words.js";

const EDGE = 8; // pixels kept free at the edges of the window

/** Buttons with data-why="fold" show words.why.fold. The browser closes the text with Esc or a click elsewhere. */
export function startWhy() {
  const text = $("#why");
  let button = null;
  // the click itself opens and closes it: popovertarget
  document.addEventListener("click", (event) => {
    const asked = /** @type {any} */ (event.target).closest?.("[data-why]");
    if (!asked) return;
    button = asked;
    text.textContent = textOf(`why.${asked.dataset.why}`);
  });
  text.addEventListener("toggle", (event) => {
    if (event.newState === "open") place(text, button);
  });
}

/** Below its button, or above it where there is more room. */
function place(text, button) {
  const at = button.getBoundingClientRect();
  const { width, height } = text.getBoundingClientRect();
  const below = at.bottom + EDGE;
  const isBelow = below + height < window.innerHeight || at.top < height + EDGE;
  text.style.left = `${Math.max(EDGE, Math.min(at.left, window.innerWidth - width - EDGE))}px`;
  text.style.top = `${isBelow ? below : at.top - height - EDGE}px`;
}
