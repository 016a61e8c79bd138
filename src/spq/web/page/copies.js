/** The copies view: groups of pictures that are copies of each other, and which of them stay. Nothing is deleted. */

import { api } from "./api.js";
import { showExport, showRules } from "./copies_dialogs.js";
import { drawGroup, keptIds } from "./copies_group.js";
import { Review } from "./copies_review.js";
import { $, announce, covered, el, icon, isAbort, redraw, toast } from "./dom.js";
import { number } from "./format.js";
import { Grid } from "./grid.js";
import { Pages } from "./pages.js";
import { showMessage } from "./results.js";
import { address, change, state } from "./state.js";
import { look, setLook } from "./tile.js";
import { words } from "./words.js";

const KINDS = ["identical", "re-encoded", "edited", "almost", "burst", "similar"]; // in order of certainty
const CONFIRMED = KINDS.slice(0, 3);
const UNSURE = "similar"; // shown on request
const TOP = 40; // groups of one request
const AGAIN = 1000; // ms between two requests for a report that is not ready
const LATER = 5000; // ms before groups that could not be loaded are tried again

export class Copies {
  constructor() {
    this.root = $("#copies");
    this.bar = $("#review");
    /** @type {any} */
    this.report = null; // the facts of the report, without its groups
    /** @type {string[]} */
    this.typed = []; // keys for a group that is not loaded yet
    this.review = new Review((isAll) => (isAll ? this.load() : this.drawAgain()));
    this.grid = new Grid($("#groups"), {
      label: words.copies.groups,
      layout,
      create: () => el("div", { class: "group" }),
      fill: (cell, group, position) => this.fill(cell, group, position),
      inset: () => covered() + (getComputedStyle(this.bar).position === "sticky" ? this.bar.offsetHeight : 0),
    });
    if (api.can.review) {
      this.review.watch(this.root);
      document.addEventListener("keydown", (event) => this.key(event), true); // before the keys of the page
    }
  }

  update(changed) {
    if (!changed || !this.report || ["view", "kind", "decided", "where"].some((name) => changed.has(name))) this.load();
    else if (this.grid.list) this.grid.refill();
  }

  /** The kinds that are shown. */
  kinds() {
    if (KINDS.includes(state.kind)) return [state.kind];
    return KINDS.filter((kind) => kind !== UNSURE || look.similar);
  }

  /** Whether this browser may decide. */
  get mayDecide() {
    return api.can.review && Boolean(this.report?.place);
  }

  /** Which groups are shown: open ones, unless the address says otherwise. */
  shown() {
    return api.can.review ? state.decided || "open" : "all";
  }

  request(more) {
    return { kind: this.kinds(), state: this.shown(), where: state.where, ...more };
  }

  async load() {
    this.controller?.abort();
    const { signal } = (this.controller = new AbortController());
    clearTimeout(this.timer);
    try {
      const answer = await api.duplicates(this.request({ offset: 0, top: TOP }), signal);
      if (signal.aborted) return;
      this.working(answer.state === "computing" ? answer : null);
      if (answer.state === "computing") {
        this.timer = setTimeout(() => this.root.hidden || this.load(), AGAIN);
        return;
      }
      this.show(answer);
    } catch (error) {
      if (isAbort(error)) return;
      this.working(null);
      this.bar.hidden = true;
      this.report = null;
      showMessage($("#copies-message"), {
        title: error.kind === "refused" ? words.copies.noGroups : words.copies.noReport,
        text: error.message,
        action: [words.copies.again, () => this.load()],
        isError: true,
      });
    }
  }

  show(answer) {
    const { groups, ...report } = answer;
    this.report = report;
    this.typed = [];
    this.review.start(report);
    const asOf = report.revision; // decided groups stay in the list until it is loaded again
    let first = groups;
    const list = new Pages(
      async (offset, top, signal) => {
        if (offset === 0 && first) {
          const items = first;
          first = null;
          return { items, total: report.total };
        }
        const page = await api.duplicates(this.request({ offset, top, as_of: asOf }), signal);
        return { items: page.groups ?? [], total: page.total ?? report.total };
      },
      {
        top: TOP,
        changed: () => {
          this.grid.update();
          this.retype();
        },
        failed: (error) => {
          this.typed = [];
          toast(error.message);
          setTimeout(() => this.grid.list === list && list.error && list.retry(), LATER);
        },
      },
    );
    this.head();
    this.message();
    this.grid.show(list, 0);
  }

  message() {
    const { total, pictures } = this.report;
    const texts = words.copies;
    const { kinds } = this.report.progress;
    const groups = this.kinds().reduce((sum, kind) => sum + (kinds[kind]?.groups ?? 0), 0);
    const isDone = groups && this.shown() === "open";
    if (total) showMessage($("#copies-message"), null);
    else if (isDone)
      showMessage($("#copies-message"), {
        title: texts.allDone(groups),
        text: texts.allDoneText,
        action: [texts.save, () => showExport(this.review.progress, this.report.place)],
      });
    else if (groups || state.where)
      showMessage($("#copies-message"), { title: texts.noGroups, text: texts.noGroupsText });
    else showMessage($("#copies-message"), { title: texts.none, text: texts.noneText(pictures) });
  }

  working(progress) {
    $("#copies-work").hidden = !progress;
    if (!progress) return;
    this.bar.hidden = true;
    const { done, total } = progress;
    const bar = $("#copies-bar");
    if (done < total) bar.value = done / total;
    else bar.removeAttribute("value"); // the next stage begins
    $("#copies-work-text").textContent = words.copies.working(progress);
  }

  /** Draw what decisions have changed. */
  drawAgain() {
    if (!this.report) return;
    this.head();
    if (this.grid.list) this.grid.refill();
  }

  /** Draw all above the groups. */
  head() {
    const texts = words.copies;
    const { stale, threshold, remark } = this.report;
    const { kinds } = this.review.progress;
    const total = (names, what) => names.reduce((sum, kind) => sum + (kinds[kind]?.[what] ?? 0), 0);
    const certain = KINDS.filter((kind) => kind !== UNSURE || look.similar);
    const tab = (name, label, many) =>
      el(
        "a",
        { href: address({ kind: name, item: null }), "aria-current": name === state.kind ? "true" : null },
        `${label} `,
        el("span", { class: "many", text: number(many) }),
      );
    const there = certain.filter((kind) => kinds[kind]);
    redraw(
      $("#kinds"),
      ...(there.length ? [tab("", texts.allKinds, total(certain, "groups"))] : []),
      ...there.map((kind) => tab(kind, texts.kinds[kind], kinds[kind].groups)),
    );
    const notes = [
      texts.about[state.kind] ?? (api.can.review ? texts.lead : texts.leadOfSite),
      api.can.review && !this.mayDecide ? texts.visitors : "",
      look.similar && threshold && kinds[UNSURE] ? texts.falseMatches(threshold.false_matches) : "",
      stale ? texts.stale : "",
    ];
    $("#copies-text").textContent = notes.filter(Boolean).join(" ");
    const warning = $("#copies-remark");
    warning.hidden = !remark;
    warning.textContent = remark ?? "";
    this.drawBar(total(this.kinds(), "decided"), total(this.kinds(), "groups"), kinds[UNSURE]?.groups ?? 0);
  }

  drawBar(decided, groups, unsure) {
    const texts = words.copies;
    const { dropped, freed, outdated } = this.review.progress;
    this.bar.hidden = !groups || !this.mayDecide;
    const button = (name, label, act, more = {}) =>
      el("button", { type: "button", class: `button small ${name}`, onclick: act, ...more }, label);
    redraw(
      $("#copies-choices"),
      ...[
        api.can.review ? el("label", { class: "check" }, texts.show, this.stateMenu()) : null,
        unsure ? el("label", { class: "check" }, this.unsureBox(), texts.withSimilar(unsure)) : null,
      ].filter(Boolean),
    );
    if (!this.mayDecide) return;
    redraw(
      this.bar,
      el(
        "div",
        { class: "how-far" },
        el("progress", { max: Math.max(groups, 1), value: decided, "aria-label": texts.decidedGroups }),
        el("p", { text: texts.progress(decided, groups, freed, Boolean(state.kind)) }),
        outdated ? el("p", { class: "outdated", text: texts.outdatedMany(outdated) }) : null,
      ),
      el(
        "div",
        { class: "acts-of-all" },
        button("", [icon("undo"), texts.undo], () => this.review.undo(), {
          disabled: !this.review.steps.length,
          title: `${texts.undo} (u)`,
        }),
        button("", texts.rules, () => this.chooseRule(), { disabled: decided === groups }),
        button(dropped ? "primary" : "", texts.save, () => showExport(this.review.progress, this.report.place)),
      ),
    );
  }

  stateMenu() {
    const texts = words.copies;
    const menu = el(
      "select",
      { "aria-label": texts.show, onchange: () => change({ decided: menu.value === "open" ? "" : menu.value }) },
      ["open", "decided", "all"].map((value) =>
        el("option", { value, selected: value === this.shown(), text: texts.shown[value] }),
      ),
    );
    return menu;
  }

  unsureBox() {
    return el("input", { type: "checkbox", checked: look.similar, onchange: () => this.toggleUnsure() });
  }

  toggleUnsure() {
    setLook({ similar: !look.similar });
    if (state.kind === UNSURE && !look.similar) change({ kind: "" });
    else this.load();
  }

  chooseRule() {
    const kinds = state.kind ? this.kinds() : this.kinds().filter((kind) => CONFIRMED.includes(kind));
    showRules({ kinds, where: state.where }, (rule) => this.review.apply(rule));
  }

  fill(cell, group, position) {
    if (!group) {
      cell.replaceChildren();
      cell.group = cell.decision = null;
      return;
    }
    const decision = this.review.of(group);
    if (cell.group === group && cell.decision === decision) return;
    const focused = cell.contains(document.activeElement) ? document.activeElement : null;
    const name = focused?.getAttribute("aria-label");
    cell.group = group;
    cell.decision = decision;
    drawGroup(cell, group, decision, this.mayDecide && ((act, id) => this.act(act, group, id, position)));
    if (focused && focused !== cell)
      (name ? cell.querySelector(`button[aria-label="${CSS.escape(name)}"]`) : null)?.focus() ??
        cell.focus({ preventScroll: true });
  }

  /** A button of a group, or the key that stands for it. */
  act(name, group, id, position) {
    const decision = this.review.of(group);
    const kept = keptIds(group, decision);
    if (name === "accept") return this.settle(group, "keep", [...kept], position);
    if (name === "apart") return this.settle(group, "apart", [], position);
    if (name === "open") return this.review.decide(group, "open");
    if (name === "compare") return this.compare(group);
    const now = new Set(decision.choice === "open" && kept.size === group.ids.length ? group.ids : kept);
    if (name === "keep") now.add(id);
    else now.delete(id);
    if (!now.size) return toast(words.copies.oneStays);
    return this.review.decide(
      group,
      "keep",
      group.ids.filter((each) => now.has(each)),
    );
  }

  /** Decide, and go to the next open group. */
  settle(group, choice, keep, position) {
    this.review.decide(group, choice, keep);
    announce(words.copies.said(choice, group.ids.length - keep.length));
    const { list } = this.grid;
    let next = position + 1;
    while (next < list.total && list.get(next) && this.review.of(list.get(next)).choice !== "open") next++;
    if (next < list.total) this.grid.focus(next);
  }

  /** Show the second picture beside the first one, in the lightbox. */
  compare(group) {
    change({ show: group.ids[1], against: group.ids[0] });
  }

  /** Keys work everywhere in the view: j and k go from group to group, the others act on the focused one. */
  key(event) {
    if (this.root.hidden || !this.mayDecide || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey)
      return;
    const { target } = event;
    if (document.querySelector("dialog[open]") || target.closest("input:not([type=checkbox]), textarea, select"))
      return;
    const isOnButton = event.key === "Enter" && target.closest("button, a"); // it is pressed
    if (!isOnButton && this.type(event.key, this.grid.positionOf(target))) event.preventDefault();
  }

  /** Whether a key means something here. Keys that are faster than the groups load wait for them. */
  type(key, position) {
    const group = position === null ? null : this.grid.list?.get(position);
    const isWaiting = position !== null && (!group || this.typed.length);
    if (!isWaiting) return this.move(key, position) || Boolean(group && this.keyOf(key, group, position));
    if (!/^(Enter|[cjknu1-9])$/.test(key)) return false;
    this.typed.push(key);
    return true;
  }

  /** Press the keys that have waited, until one has to wait again. */
  retype() {
    const keys = this.typed;
    this.typed = [];
    while (keys.length && this.grid.list.get(this.grid.active)) this.type(keys.shift(), this.grid.active);
    this.typed.push(...keys);
  }

  move(key, position) {
    const { list, active } = this.grid;
    if (key === "u" && (this.review.steps.length || this.review.waiting)) this.review.undo();
    else if (!list?.total || !["j", "k"].includes(key)) return false;
    else if (position === null) this.grid.focus(active);
    else this.grid.focus(position + (key === "j" ? 1 : -1));
    return true;
  }

  keyOf(key, group, position) {
    if (key === "Enter") this.act("accept", group, null, position);
    else if (key === "n") this.act("apart", group, null, position);
    else if (key === "c") this.act("compare", group, null, position);
    else if (/^[1-9]$/.test(key) && Number(key) <= group.ids.length)
      this.settle(group, "keep", [group.ids[Number(key) - 1]], position);
    else return /^[1-9]$/.test(key);
    return true;
  }

  retry() {
    this.load();
  }
}

/** @param {number} width */
function layout(width) {
  const isLow = window.innerHeight < 520;
  const wide = isLow ? 150 : Math.min(190, Math.floor((width - 42) / 2)); // two fit on a phone
  const high = isLow ? 100 : wide;
  $("#groups").style.setProperty("--side", `${wide}px`);
  $("#groups").style.setProperty("--high", `${high}px`);
  const rest = api.can.review ? 236 : 164; // of a group without its pictures
  return { columns: Math.max(1, Math.floor(width / (isLow ? 340 : 440))), rowHeight: high + rest, gap: 20 };
}
