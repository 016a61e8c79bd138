/** Changes while the page is open: a running sync, new pictures, a server that stops and comes back. */

import { api } from "./api.js";
import { $, announce, isAbort } from "./dom.js";
import { change, newSearch } from "./state.js";
import { words } from "./words.js";

const CALM = 5000; // ms between two requests of the status
const BUSY = 1500; // while a sync runs
const LONGEST = 15000; // between two tries while the server does not answer

export class Live {
  /** @type {any} */
  news = null; // what is offered
  onStatus = (_status) => {};
  onBack = () => {};
  onChanged = () => {};

  /**
   * @param {any} calls onStatus(status) for each status; onBack() when the server answers again;
   *   onChanged() when the user asks to see changes.
   */
  constructor({ onStatus, onBack, onChanged }) {
    Object.assign(this, { onStatus, onBack, onChanged });
    this.status = null;
    this.seen = null; // the generation that the page shows
    this.failures = 0;
    $("#news-show").addEventListener("click", () => this.show());
    $("#news-close").addEventListener("click", () => this.hideNews());
    $("#banner-retry").addEventListener("click", () => this.check());
    document.addEventListener("visibilitychange", () => document.hidden || this.check());
    window.addEventListener("online", () => this.check());
  }

  async check() {
    clearTimeout(this.timer);
    if (this.isChecking) return;
    this.isChecking = true;
    try {
      const status = await api.status(AbortSignal.timeout(10000));
      this.isChecking = false;
      this.received(status);
    } catch (error) {
      this.isChecking = false;
      this.failed(isAbort(error) || error.name === "TimeoutError" ? { kind: "gone", message: words.api.gone } : error);
    }
  }

  received(status) {
    const wasGone = this.failures > 0;
    this.failures = 0;
    $("#banner").hidden = true;
    this.status = status;
    this.seen ??= status.generation;
    this.onStatus(status);
    this.drawSync(status);
    if (wasGone) {
      announce(words.live.back);
      this.onBack();
    }
    if (status.generation !== this.seen && this.offered !== status.generation) this.offer(status.generation);
    if (api.can.live) this.timer = setTimeout(() => this.later(), status.sync?.running ? BUSY : CALM);
  }

  later() {
    if (!document.hidden) this.check();
  }

  failed(error) {
    if (error.kind === "refused" || error.kind === "token") {
      this.banner(error.kind === "token" ? words.live.token : error.message);
      return;
    }
    this.failures++;
    const wait = Math.min(LONGEST, 1000 * 2 ** (this.failures - 1));
    const texts = { busy: words.live.busy, fault: error.message };
    this.banner(texts[error.kind] ?? words.live.gone);
    this.timer = setTimeout(() => this.check(), wait);
  }

  banner(text) {
    const banner = $("#banner");
    if (banner.hidden || $("#banner-text").textContent !== text) announce(text);
    $("#banner-text").textContent = text;
    banner.hidden = false;
  }

  drawSync({ sync, sync_error: error }) {
    const line = $("#sync");
    line.hidden = !sync?.running && !error;
    if (error) $("#sync-text").textContent = words.live.behind(error);
    if (!sync?.running) return;
    const bar = $("#sync-bar");
    if (sync.total) bar.value = sync.done / sync.total;
    else bar.removeAttribute("value");
    const failed = sync.failed ? words.live.unreadable(sync.failed) : "";
    $("#sync-text").textContent = sync.total ? words.live.reading(sync.done, sync.total) + failed : words.live.looking;
  }

  /** Offer to show what is new. Nothing changes on the page until the user accepts. */
  async offer(generation) {
    this.offered = generation;
    const answer = await api.browse({ order: "new", since: this.seen, top: 1 }).catch(() => null);
    if (!answer) this.offered = null; // the next status asks again
    if (!answer || this.offered !== generation) return;
    const text = answer.total ? words.live.news(answer.total) : words.live.changed;
    $("#news-text").textContent = text;
    $("#news-show").textContent = answer.total ? words.live.show : words.live.reload;
    this.news = { generation, isNew: answer.total > 0, since: this.seen };
    $("#news").hidden = false;
    announce(text);
  }

  show() {
    const { isNew, since } = this.news;
    this.hideNews();
    this.onChanged();
    if (isNew) change(newSearch({ where: "", order: "new", since }));
  }

  hideNews() {
    this.seen = this.news.generation;
    $("#news").hidden = true;
  }
}
