/** Two dialogs of the copies view: a rule for all open groups, and the list and script of what was decided. */

import { api } from "./api.js";
import { debounce, el, iconButton, isAbort } from "./dom.js";
import { words } from "./words.js";

const PAUSE = 120; // ms after a change of the rule before its effect is requested

/** Show a dialog until it is closed, and remove it then. */
function show(name, title, ...children) {
  const dialog = el(
    "dialog",
    { class: "copies-dialog", id: name, "aria-labelledby": `${name}-title` },
    el("header", {}, el("h2", { id: `${name}-title`, text: title }), iconButton("close", words.copies.close, close)),
    ...children,
  );
  function close() {
    dialog.close();
  }
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Choose a rule, see what it would do, and apply it.
 * @param {{kinds: string[], where: string}} of the groups that are shown
 * @param {(rule: any) => void} apply
 */
export function showRules({ kinds, where }, apply) {
  const texts = words.copies;
  const isConfirmed = kinds.every((kind) => ["identical", "re-encoded", "edited"].includes(kind));
  const rules = ["suggested", "oldest", "newest", "largest", "pixels", "folder"].filter(
    (rule) => rule !== "suggested" || isConfirmed,
  );
  const effect = el("p", { id: "rule-effect", role: "status" });
  const folder = el("select", { "aria-label": texts.folder, disabled: true });
  const ok = el("button", { type: "submit", class: "button primary", disabled: true, text: texts.apply(0) });
  let request = new AbortController();

  const rule = () => ({ rule: form.elements.rule.value, folder: folder.value, kinds, where: where || null });
  const look = debounce(PAUSE, async () => {
    const { signal } = request;
    try {
      let answer = await api.copyRule({ ...rule(), dry: true }, signal);
      if (rule().rule === "folder" && !folder.options.length && answer.folders.length) {
        for (const each of answer.folders)
          folder.append(el("option", { value: each.folder, text: texts.folderOf(each.folder, each.groups) }));
        answer = await api.copyRule({ ...rule(), dry: true }, signal);
      }
      effect.textContent = texts.effect(answer);
      ok.disabled = !answer.groups;
      ok.textContent = texts.apply(answer.groups);
    } catch (error) {
      if (isAbort(error)) return;
      effect.textContent = error.message;
      ok.disabled = true;
    }
  });
  const choose = () => {
    folder.disabled = form.elements.rule.value !== "folder";
    ok.disabled = true;
    request.abort(); // its answer is about another rule
    request = new AbortController();
    look();
  };
  const form = el(
    "form",
    { method: "dialog" },
    el("p", { class: "muted", text: texts.ruleFor(kinds.map((kind) => texts.kinds[kind])) }),
    el(
      "fieldset",
      {},
      el("legend", { class: "unseen", text: texts.rules }),
      rules.map((name, n) =>
        el(
          "label",
          { class: "choice" },
          el("input", { type: "radio", name: "rule", value: name, checked: n === 0, onchange: choose }),
          el("span", { text: texts.rule[name] }),
          name === "folder" ? folder : null,
        ),
      ),
    ),
    effect,
    el("footer", {}, ok),
  );
  folder.addEventListener("change", choose);
  form.addEventListener("submit", () => apply(rule()));
  show("rules", texts.rules, form);
  choose();
}

/**
 * Save what was decided.
 * @param {any} progress of the review
 * @param {string} place the file of the decisions
 */
export function showExport(progress, place) {
  const texts = words.copies;
  const save = (href, label, isFirst) =>
    el("a", { class: `button ${isFirst ? "primary" : ""}`, href, download: "", text: label });
  show(
    "save-copies",
    texts.save,
    el("p", { text: progress.dropped ? texts.saveWhat(progress.dropped, progress.freed) : texts.saveNothing }),
    el("h3", { text: texts.script }),
    el("p", { class: "muted", text: texts.scriptText }),
    el("pre", { tabindex: "0", "aria-label": texts.script }, "sh move-copies.sh\nsh move-copies.sh --go"),
    el("p", {}, save(api.copiesScriptURL(), texts.saveScript, true)),
    el("h3", { text: texts.list }),
    el("p", { class: "muted", text: texts.listText }),
    el("p", {}, save(api.copiesListURL(), texts.saveList, false)),
    el("p", { class: "muted place-of", text: texts.place(place) }),
  );
}
