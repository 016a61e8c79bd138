/** The codewords view: for each codeword, the pictures that use it, the most typical first. */

import { api } from "./api.js";
import { $, altText, covered, el, isAbort, number, redraw } from "./dom.js";
import { percent } from "./format.js";
import { Grid } from "./grid.js";
import { Pages } from "./pages.js";
import { showMessage } from "./results.js";
import { address, change, state } from "./state.js";
import { fillTile, tile, tileLayout } from "./tile.js";
import { words } from "./words.js";

const SHOWN = 8; // pictures on a card
const AGAIN = 3000; // ms before a card that failed is tried again

export class Codewords {
  /** @type {((item: any) => void) | null} */
  moved = null; // called when a key moves to a picture
  /** @type {any} */
  usage = null; // how many pictures use each codeword
  where = ""; // the filter of `usage`
  shown = ""; // which cards are in the document
  scrolled = 0; // how far the cards are scrolled
  controller = new AbortController();

  constructor() {
    this.root = $("#codewords");
    this.books = $("#books");
    this.cards = $("#cards");
    this.grid = new Grid($("#word-grid"), {
      label: words.codewords.pictures,
      layout: (width) => tileLayout(width, false),
      create: tile,
      fill: (cell, item, _position, isCalm) => fillTile(cell, item, isCalm),
      inset: covered,
      moved: (position) => this.moved?.(this.grid.list.get(position)),
    });
    this.sight = new IntersectionObserver(
      (entries) => entries.forEach((entry) => entry.isIntersecting && this.fill(entry.target)),
      { rootMargin: "300px" },
    );
    // while the cards are hidden, the window scrolls for other reasons
    window.addEventListener("scroll", () => this.areCardsShown() && (this.scrolled = window.scrollY), {
      passive: true,
    });
  }

  areCardsShown() {
    return !this.root.hidden && !this.cards.hidden;
  }

  update(changed) {
    if (!changed || !this.usage || this.where !== state.where) return this.load();
    if (["view", "book", "word"].some((name) => changed.has(name))) return this.draw();
    return this.grid.list && this.grid.refill();
  }

  async load() {
    this.controller.abort();
    const { signal } = (this.controller = new AbortController());
    this.root.setAttribute("aria-busy", "true");
    showMessage($("#codewords-message"), null);
    try {
      const { where } = state;
      this.usage = await api.codewords({ where }, signal);
      this.where = where;
      this.shown = "";
    } catch (error) {
      if (isAbort(error)) return;
      this.usage = null;
      this.cards.hidden = true;
      $("#word").hidden = true;
      $("#codewords-text").textContent = "";
      showMessage($("#codewords-message"), {
        title: words.codewords.failed,
        text: error.message,
        action: [words.common.tryAgain, () => this.load()],
        isError: true,
      });
      return;
    } finally {
      if (!signal.aborted) this.root.setAttribute("aria-busy", "false");
    }
    if (!signal.aborted) this.draw();
  }

  draw() {
    const { codebooks, counts } = this.usage;
    const book = Math.min(state.book, codebooks - 1);
    redraw(
      this.books,
      ...Array.from({ length: codebooks }, (_, m) =>
        el(
          "a",
          {
            href: address({ view: "codewords", book: m, word: null, item: null }),
            "aria-current": m === book ? "true" : null,
            "aria-label": words.codewords.book(m + 1),
          },
          String(m + 1),
        ),
      ),
    );
    const isOne = state.word !== null;
    const wasOne = !$("#word").hidden;
    this.cards.hidden = isOne;
    $("#word").hidden = !isOne;
    showMessage($("#codewords-message"), null);
    if (isOne) this.drawWord(book, state.word);
    else this.drawCards(book, counts[book]);
    const hadFocus = document.activeElement === document.body || !document.activeElement?.checkVisibility();
    if (isOne && !wasOne) window.scrollTo({ top: 0, behavior: "instant" });
    if (isOne && !wasOne && hadFocus) $("#word-back").focus({ preventScroll: true });
    if (!isOne && wasOne && hadFocus) $(`[data-word="${this.word}"]`, this.cards)?.focus({ preventScroll: true });
    this.word = state.word;
  }

  drawCards(book, counts) {
    const used = counts
      .map((many, k) => ({ k, many }))
      .filter(({ many }) => many)
      .sort((a, b) => b.many - a.many || a.k - b.k);
    const idle = counts.length - used.length;
    $("#codewords-text").textContent = [
      words.codewords.sorted(book + 1, used.length),
      idle ? words.codewords.unused(idle) : "",
    ].join(" ");
    const shown = JSON.stringify([book, this.where]);
    if (shown === this.shown) return window.scrollTo({ top: this.scrolled, behavior: "instant" });
    if (this.shown) window.scrollTo({ top: 0, behavior: "instant" });
    this.shown = shown;
    this.sight.disconnect();
    const all = counts.reduce((sum, many) => sum + many, 0);
    this.cards.replaceChildren(...used.map(({ k, many }) => this.card(book, k, many, all)));
    for (const card of this.cards.children) this.sight.observe(card);
    if (!used.length) showMessage($("#codewords-message"), nothing(this.where));
    return undefined;
  }

  card(book, k, many, all) {
    const share = many / Math.max(1, all);
    return el(
      "a",
      {
        class: "card",
        href: address({ view: "codewords", book, word: k, item: null, at: 0 }),
        "data-book": book,
        "data-word": k,
        "aria-label": words.codewords.wordLabel(k, many),
      },
      el(
        "span",
        { class: "mosaic" },
        Array.from({ length: Math.min(SHOWN, many) }, () => el("span", { class: "cell" })),
      ),
      el(
        "span",
        { class: "card-text" },
        el("b", { text: words.codewords.word(k) }),
        el("span", { class: "mostly" }),
        el("span", { text: `${number(many)} · ${percent(share, share < 0.1 ? 1 : 0)}` }),
      ),
    );
  }

  async fill(card) {
    this.sight.unobserve(card);
    const [book, word] = [card.dataset.book, card.dataset.word].map(Number);
    try {
      const { items } = await api.codeword(book, word, { top: SHOWN, where: this.where }, this.controller.signal);
      items.forEach((item, n) =>
        card.firstChild.children[n]?.replaceChildren(
          el("img", { src: api.thumbnailURL(item.id, 256), alt: altText(item), loading: "lazy", decoding: "async" }),
        ),
      );
      const label = most(items.map((item) => item.label));
      if (label) $(".mostly", card).textContent = words.codewords.mostly(label);
    } catch (error) {
      if (isAbort(error)) return;
      setTimeout(() => card.isConnected && this.sight.observe(card), AGAIN); // tries again if the card is visible
    }
  }

  drawWord(book, k) {
    const many = this.usage.counts[book][k] ?? 0;
    $("#codewords-text").textContent = words.codewords.wordText(book + 1, k, many);
    $("#word-back").href = address({ view: "codewords", book, word: null, item: null });
    const pages = new Pages(
      async (offset, top, signal) => {
        const { items, count: total } = await api.codeword(book, k, { offset, top, where: this.where }, signal);
        return { items, total, ends: false };
      },
      {
        changed: () => this.grid.list === pages && this.grid.update(),
        failed: (error) =>
          showMessage($("#codewords-message"), {
            title: words.codewords.oneFailed,
            text: error.message,
            action: [words.common.tryAgain, () => this.load()],
            isError: true,
          }),
      },
    );
    this.grid.show(pages, 0);
  }

  retry() {
    this.load();
  }
}

/** The label of more than half of the pictures; null if there is none. @param {(string | null)[]} labels */
function most(labels) {
  return labels.find((label) => label && labels.filter((one) => one === label).length > labels.length / 2) ?? null;
}

/** What to say when no codeword is used. */
function nothing(where) {
  if (!where) return { title: words.codewords.emptyTitle, text: words.codewords.empty };
  const action = [words.filter.clear, () => change({ where: "" })];
  return { title: words.codewords.nothing, text: where, action };
}
