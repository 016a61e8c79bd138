/** What changes while one looks: a sync at work, new pictures, a server that goes and comes back. */

import { api } from "./api.js";
import { $, announce, count, isAbort, number } from "./dom.js";
import { change, fresh } from "./state.js";

const CALM = 5000; // ms between two looks
const BUSY = 1500; // while a sync is at work
const LONGEST = 15000; // between two tries while the server is gone

export class Live {
  /** @param told(status) for each status; back() when the server has come back; changed() when one asks to see changes. */
  constructor({ told, back, changed }) {
    Object.assign(this, { told, back, changed });
    this.status = null;
    this.seen = null; // generation that is shown
    this.failures = 0;
    $("#news-show").addEventListener("click", () => this.show());
    $("#news-close").addEventListener("click", () => this.hideNews());
    $("#banner-retry").addEventListener("click", () => this.look());
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
    window.addEventListener("online", () => this.look());
  }

  async look() {
    clearTimeout(this.timer);
    if (this.isLooking) return;
    this.isLooking = true;
    try {
      const status = await api.status(AbortSignal.timeout(10000));
      this.isLooking = false;
      this.here(status);
    } catch (error) {
      this.isLooking = false;
      this.missing(isAbort(error) || error.name === "TimeoutError" ? { kind: "gone", message: "The server does not answer." } : error);
    }
  }

  here(status) {
    const wasGone = this.failures > 0;
    this.failures = 0;
    $("#banner").hidden = true;
    this.status = status;
    this.seen ??= status.generation;
    this.told(status);
    this.drawSync(status);
    if (wasGone) {
      announce("The server is back");
      this.back();
    }
    if (status.generation !== this.seen && this.offered !== status.generation) this.offer(status.generation);
    if (api.can.live) this.timer = setTimeout(() => this.later(), status.sync?.running ? BUSY : CALM);
  }

  later() {
    if (!document.hidden) this.look();
  }

  missing(error) {
    if (error.kind === "refused" || error.kind === "token") {
      this.banner(error.kind === "token" ? "This page needs its token: open it with the address that spq serve printed." : error.message);
      return;
    }
    this.failures++;
    const wait = Math.min(LONGEST, 1000 * 2 ** (this.failures - 1));
    this.banner(error.kind === "busy" ? "The server has too much to do. It is asked again soon." : "The server does not answer. It is asked again by itself.");
    this.timer = setTimeout(() => this.look(), wait);
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
    if (error) $("#sync-text").textContent = `Not in step with the pictures: ${error}`;
    if (!sync?.running) return;
    const bar = $("#sync-bar");
    if (sync.total) bar.value = sync.done / sync.total;
    else bar.removeAttribute("value");
    const failed = sync.failed ? `, ${number(sync.failed)} unreadable` : "";
    $("#sync-text").textContent = sync.total ? `Reading new pictures: ${number(sync.done)} of ${number(sync.total)}${failed}` : "Looking for new pictures";
  }

  /** Say what is new, and wait to be asked for it: nothing moves under one's eyes. */
  async offer(generation) {
    this.offered = generation;
    const answer = await api.browse({ order: "new", since: this.seen, top: 1 }).catch(() => null);
    if (!answer || this.offered !== generation) return;
    const text = answer.total ? count(answer.total, "new picture") : "The collection has changed";
    $("#news-text").textContent = text;
    $("#news-show").textContent = answer.total ? "Show" : "Reload";
    this.news = { generation, isNew: answer.total > 0, since: this.seen };
    $("#news").hidden = false;
    announce(text);
  }

  show() {
    const { isNew, since } = this.news;
    this.hideNews();
    this.changed();
    if (isNew) change(fresh({ where: "", order: "new", since }));
  }

  hideNews() {
    this.seen = this.news.generation;
    $("#news").hidden = true;
  }
}
