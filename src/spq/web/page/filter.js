/** The field for a filter, with suggestions, and what is wrong with it in place. */

import { api } from "./api.js";
import { $, announce, el } from "./dom.js";
import { change, state } from "./state.js";
import { suggest } from "./filter_suggestions.js";

const form = $("#filter");
const input = $("#where");
const list = $("#suggestions");
const fault = $("#where-error");
let columns = [];
let offered = null; // what suggest() gave
let chosen = -1;

export function startFilter() {
  form.hidden = !api.can.filter;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  input.addEventListener("input", offer);
  input.addEventListener("click", offer);
  input.addEventListener("focus", offer);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", key);
  list.addEventListener("pointerdown", (event) => {
    event.preventDefault(); // the field keeps the focus
    const option = event.target.closest("[role=option]");
    if (option) take(Number(option.dataset.option));
  });
  $("#where-clear").addEventListener("click", () => {
    input.value = "";
    apply();
    input.focus();
  });
}

export function setColumns(given) {
  columns = given;
}

/** What the address says is in the field. */
export function drawFilter() {
  if (document.activeElement !== input) input.value = state.where;
  form.classList.toggle("on", Boolean(state.where));
  $("#where-clear").hidden = !input.value;
}

async function apply() {
  close();
  const where = input.value.trim();
  $("#where-clear").hidden = !where;
  if (where && (await wrong(where))) return;
  tell(null);
  change({ where, max: null, at: 0, since: null, ...(state.view === "copies" || state.view === "codewords" ? { view: "pictures" } : {}) });
  drawFilter();
}

/** Tells what is wrong with a filter; false if nothing is. */
async function wrong(where) {
  try {
    await api.browse({ where, top: 1 });
    return false;
  } catch (error) {
    if (error.kind !== "refused") return false; // not the filter's fault: the search will say so
    tell(error.message);
    return true;
  }
}

/** For a search that was refused: whether that is because of its filter. */
export const filterIsWrong = () => wrong(state.where);

function tell(text) {
  fault.textContent = text ?? "";
  fault.hidden = !text;
  input.setAttribute("aria-invalid", Boolean(text));
  if (text) announce(`Filter: ${text}`);
}

function offer() {
  $("#where-clear").hidden = !input.value;
  if (!input.value.trim()) tell(null);
  offered = suggest(input.value, input.selectionStart ?? input.value.length, columns);
  chosen = -1;
  list.replaceChildren(...offered.options.map((option, n) =>
    el("li", { role: "option", id: `option-${n}`, "data-option": n, "aria-selected": "false" }, el("code", { text: option.label }), el("span", { text: option.hint }))));
  show(offered.options.length > 0 && document.activeElement === input);
}

function show(is) {
  list.hidden = !is;
  input.setAttribute("aria-expanded", is);
  if (!is) input.removeAttribute("aria-activedescendant");
}

const close = () => show(false);

function take(n) {
  const { start, end, options } = offered;
  const text = input.value;
  input.value = text.slice(0, start) + options[n].insert + text.slice(end).trimStart();
  const at = start + options[n].insert.length;
  input.setSelectionRange(at, at);
  offer();
}

function key(event) {
  const count = list.hidden ? 0 : list.children.length;
  if (event.key === "Escape") {
    event.stopPropagation();
    if (count) close();
    else {
      input.value = state.where;
      tell(null);
      input.blur();
    }
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (list.hidden) offer();
    else if (count) choose((chosen + (event.key === "ArrowDown" ? 1 : -1) + count + (chosen < 0 && event.key === "ArrowUp" ? 1 : 0)) % count);
  } else if ((event.key === "Enter" || event.key === "Tab") && count && chosen >= 0) {
    event.preventDefault();
    take(chosen);
  }
}

function choose(n) {
  chosen = n;
  [...list.children].forEach((option, at) => option.setAttribute("aria-selected", at === n));
  input.setAttribute("aria-activedescendant", `option-${n}`);
  list.children[n].scrollIntoView({ block: "nearest" });
}
