/** The filter field, with suggestions and error messages. */

import { api } from "./api.js";
import { $, announce, closest, el } from "./dom.js";
import { change, state } from "./state.js";
import { words } from "./words.js";

const form = $("#filter");
const input = $("#where");
const list = $("#suggestions");
const errorLine = $("#where-error");
/** @type {ColumnInfo[]} */
let columns = [];
/** @type {{start: number, end: number, options: {insert: string, label: string, hint: string}[]}} */
let suggestions = { start: 0, end: 0, options: [] }; // the last result of suggest()
let selected = -1;
let asked = 0; // counts the checks of a filter; only the last one says something

export function startFilter() {
  form.hidden = !api.can.filter;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  input.addEventListener("input", showSuggestions);
  input.addEventListener("click", showSuggestions);
  input.addEventListener("focus", showSuggestions);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", key);
  list.addEventListener("pointerdown", (event) => {
    event.preventDefault(); // keeps the focus in the field
    const option = closest(event, "[role=option]");
    if (option) insertSuggestion(Number(option.dataset.option));
  });
  $("#where-clear").addEventListener("click", () => {
    input.value = "";
    apply();
    input.focus();
  });
}

export function setColumns(found) {
  columns = found;
}

/** Show the filter of the state in the field. */
export function drawFilter() {
  if (document.activeElement !== input) input.value = state.where;
  form.classList.toggle("on", Boolean(state.where));
  $("#where-clear").hidden = !input.value;
}

async function apply() {
  close();
  const where = input.value.trim();
  $("#where-clear").hidden = !where;
  const turn = ++asked;
  const isWrong = Boolean(where) && (await hasError(where));
  if (isWrong || turn !== asked) return;
  showError(null);
  change({ where, max: null, at: 0, since: null });
  drawFilter();
}

/** Show the error of a filter; return false if it has none. */
async function hasError(where) {
  const turn = asked;
  try {
    await api.browse({ where, top: 1 });
    return false;
  } catch (error) {
    if (error.kind !== "refused") return false; // another problem, which the search will report
    if (turn === asked) showError(error.message);
    return true;
  }
}

/** Whether the filter is the reason why a search was refused. */
export const filterIsWrong = () => hasError(state.where);

function showError(text) {
  errorLine.textContent = text ?? "";
  errorLine.hidden = !text;
  input.setAttribute("aria-invalid", Boolean(text));
  if (text) announce(words.filter.said(text));
}

async function showSuggestions() {
  $("#where-clear").hidden = !input.value;
  if (!input.value.trim()) showError(null);
  const { suggest } = await import("./filter_suggestions.js"); // when the field is first used
  suggestions = suggest(input.value, input.selectionStart ?? input.value.length, columns);
  selected = -1;
  list.replaceChildren(
    ...suggestions.options.map((option, n) =>
      el(
        "li",
        { role: "option", id: `option-${n}`, "data-option": n, "aria-selected": "false" },
        el("code", { text: option.label }),
        el("span", { text: option.hint }),
      ),
    ),
  );
  show(suggestions.options.length > 0 && document.activeElement === input);
}

function show(is) {
  list.hidden = !is;
  input.setAttribute("aria-expanded", is);
  if (!is) input.removeAttribute("aria-activedescendant");
}

const close = () => show(false);

function insertSuggestion(n) {
  const { start, end, options } = suggestions;
  const text = input.value;
  input.value = text.slice(0, start) + options[n].insert + text.slice(end).trimStart();
  const at = start + options[n].insert.length;
  input.setSelectionRange(at, at);
  showSuggestions();
}

function key(event) {
  const count = list.hidden ? 0 : list.children.length;
  if (event.key === "Escape") {
    event.stopPropagation();
    if (count) close();
    else {
      input.value = state.where;
      showError(null);
      input.blur();
    }
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (list.hidden) showSuggestions();
    else if (count)
      select(
        (selected + (event.key === "ArrowDown" ? 1 : -1) + count + (selected < 0 && event.key === "ArrowUp" ? 1 : 0)) %
          count,
      );
  } else if ((event.key === "Enter" || event.key === "Tab") && count && selected >= 0) {
    event.preventDefault();
    insertSuggestion(selected);
  }
}

function select(n) {
  selected = n;
  [...list.children].forEach((option, at) => option.setAttribute("aria-selected", at === n));
  input.setAttribute("aria-activedescendant", `option-${n}`);
  list.children[n].scrollIntoView({ block: "nearest" });
}
