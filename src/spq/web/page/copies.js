/** The copies view: groups of pictures that are copies of each other, and which one to keep. It deletes nothing. */

import { api } from "./api.js";
import { $, altText, bytesText, count, covered, distanceText, el, fileName, isAbort, number, redraw } from "./dom.js";
import { Grid } from "./grid.js";
import { Listed } from "./pages.js";
import { showMessage } from "./results.js";
import { address, newSearch, state } from "./state.js";

const KINDS = {
  identical: "Identical files",
  "re-encoded": "Re-encoded or resized",
  edited: "Edited",
  almost: "Almost the same",
  burst: "Taken within seconds",
  similar: "Only similar",
};
const SHOWN = 24; // pictures of one group
const AGAIN = 1000; // ms between two requests for a report that is not ready

export class Copies {
  constructor() {
    this.root = $("#copies");
    this.grid = new Grid($("#groups"), {
      label: "Groups of copies",
      layout: (width) => ({
        columns: Math.max(1, Math.floor(width / 430)),
        rowHeight: width < 560 ? 236 : 272,
        gap: 24,
      }),
      create: () => el("div", { class: "group" }),
      fill: (cell, group) => this.fill(cell, group),
      inset: covered,
    });
  }

  update(changed) {
    if (!changed || changed.has("view") || !this.report) this.load();
    else if (changed.has("kind")) this.draw();
    else this.grid.list && this.grid.refill();
  }

  async load() {
    this.controller?.abort();
    const { signal } = (this.controller = new AbortController());
    clearTimeout(this.timer);
    try {
      const answer = await api.duplicates(signal);
      if (signal.aborted) return;
      this.working(answer.state === "computing" ? answer : null);
      if (answer.state === "computing") {
        this.timer = setTimeout(() => this.root.hidden || this.load(), AGAIN);
        return;
      }
      this.report = answer;
      showMessage($("#copies-message"), null);
      this.draw();
    } catch (error) {
      if (isAbort(error)) return;
      this.working(null);
      showMessage($("#copies-message"), {
        title: "No report of copies",
        text: error.message,
        action: ["Try again", () => this.load()],
        isError: true,
      });
    }
  }

  working(progress) {
    $("#copies-work").hidden = !progress;
    if (!progress) return;
    const { stage, done, total } = progress;
    const bar = $("#copies-bar");
    const isCounted = done < total; // after that the next stage begins
    const name = stage[0].toUpperCase() + stage.slice(1);
    if (isCounted) bar.value = done / total;
    else bar.removeAttribute("value");
    $("#copies-work-text").textContent = isCounted ? `${name}: ${number(done)} of ${number(total)}` : name;
  }

  draw() {
    const { groups, pictures, stale, threshold } = this.report;
    const counts = Object.fromEntries(
      Object.keys(KINDS).map((kind) => [kind, groups.filter((group) => group.kind === kind).length]),
    );
    const kind = counts[state.kind] ? state.kind : "";
    const tab = (name, label, many) =>
      el(
        "a",
        { href: address({ kind: name, item: null }), "aria-current": name === kind ? "true" : null },
        `${label} `,
        el("span", { class: "many", text: number(many) }),
      );
    redraw(
      $("#kinds"),
      ...(groups.length ? [tab("", "All", groups.length)] : []),
      ...Object.entries(KINDS)
        .filter(([name]) => counts[name])
        .map(([name, label]) => tab(name, label, counts[name])),
    );
    const shown = kind ? groups.filter((group) => group.kind === kind) : groups;
    const spare = groups.reduce(
      (sum, group) => sum + (group.confirmed ? group.items.filter((item) => item.keep === "no").length : 0),
      0,
    );
    const notes = [
      groups.length
        ? `${spare ? count(spare, "picture") : "None"} of ${number(pictures)} could be deleted. spq deletes nothing.`
        : "",
      counts.almost ? "Almost the same: look at the marked place." : "",
      counts.similar ? "The last kind holds different pictures that look alike to the model." : "",
      threshold && counts.similar
        ? `This is also true for ${(100 * threshold.false_matches).toPrecision(2)}% of random pairs.`
        : "",
      stale ? "The collection has changed since. The server is making a new report." : "",
    ];
    $("#copies-text").textContent = notes.filter(Boolean).join(" ");
    if (!groups.length)
      showMessage($("#copies-message"), { title: "No copies", text: `All ${number(pictures)} pictures differ.` });
    this.grid.show(new Listed(shown), 0);
  }

  fill(cell, group) {
    if (cell.group === group) return;
    cell.group = group;
    const left = group.items.length - SHOWN;
    cell.dataset.kind = group.kind;
    cell.replaceChildren(
      el(
        "header",
        {},
        el("h3", { text: KINDS[group.kind] }),
        el("p", { text: group.confirmed ? `keep the first: ${group.why}` : count(group.ids.length, "picture") }),
      ),
      el(
        "div",
        { class: "members" },
        group.items.slice(0, SHOWN).map((item, n) => this.member(item, n === 0 && group.confirmed)),
        left > 0
          ? el("a", { class: "rest", href: address(newSearch({ like: [group.keep] })), text: `${number(left)} more` })
          : null,
      ),
    );
  }

  member(item, isKept) {
    const parts = [
      item.width ? `${number(item.width)} × ${number(item.height)}` : "",
      item.size ? bytesText(item.size) : "",
      !isKept && item.distance !== null && item.distance !== undefined ? `distance ${distanceText(item.distance)}` : "",
    ];
    return el(
      "figure",
      { class: isKept ? "kept" : null },
      el(
        "a",
        { href: address({ item: item.id }), "data-details": item.id, title: item.path },
        el("img", { src: api.thumbnailURL(item.id, 256), alt: altText(item), decoding: "async", loading: "lazy" }),
      ),
      el(
        "figcaption",
        {},
        el("b", { text: isKept ? "keep" : fileName(item.path) }),
        el("span", { text: isKept ? fileName(item.path) : item.note === "similar" ? "" : item.note || "" }),
        el("span", { class: "muted", text: parts.filter(Boolean).join(", ") }),
      ),
    );
  }

  retry() {
    this.load();
  }
}
