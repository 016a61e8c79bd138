/** The menu of the appearance: size and shape of pictures, theme, language, distances. */

import { $ } from "./dom.js";
import { look, setLook } from "./tile.js";
import { views } from "./views.js";

export function startLook() {
  const menu = $("#look");
  const button = $("#look-button");
  const size = $("#size");
  const close = (isKept = false) => {
    menu.hidden = true;
    button.setAttribute("aria-expanded", "false");
    if (!isKept) button.focus();
  };
  button.addEventListener("click", () => {
    menu.hidden = !menu.hidden;
    button.setAttribute("aria-expanded", !menu.hidden);
    if (!menu.hidden) size.focus();
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close();
  });
  document.addEventListener(
    "pointerdown",
    (event) => menu.hidden || menu.contains(event.target) || button.contains(event.target) || close(true),
  );
  size.value = look.size;
  size.addEventListener("input", () => {
    setLook({ size: Number(size.value) });
    views.pictures.grid.width = -1; // forces a new layout without a scroll
    views.pictures.grid.resize();
    views.codewords?.grid.resize();
  });
  const numbers = $("#numbers");
  numbers.checked = look.numbers;
  numbers.addEventListener("change", () => {
    setLook({ numbers: numbers.checked });
    views.pictures.redraw();
  });
  for (const choice of menu.querySelectorAll("input[type=radio]")) {
    choice.checked = look[choice.name] === choice.value;
    choice.addEventListener("change", () => {
      setLook({ [choice.name]: choice.value });
      if (choice.name === "language") location.reload(); // the address keeps what is on the page
      views.map?.draw();
    });
  }
}
