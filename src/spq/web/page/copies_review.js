/**
 * What the user decides about groups of copies: shown at once, sent in order, undone step by step. Other tabs are told.
 *
 * Decision = {choice: "open"|"keep"|"apart", keep: [id], stays: [id], revision, outdated}
 */

import { api } from "./api.js";
import { toast } from "./dom.js";
import { state } from "./state.js";
import { words } from "./words.js";

const LOOK = 8000; // ms between two looks for the decisions of other tabs

export class Review {
  /** @param {(isAll: boolean) => void} changed called after decisions have changed; isAll: load the groups again. */
  constructor(changed) {
    this.changed = changed;
    this.known = new Map(); // key -> the newest decision, of groups that have changed since they were loaded
    this.steps = []; // that can be undone: {batch, count}
    this.revision = 0;
    /** @type {any} */
    this.progress = null;
    this.sending = Promise.resolve();
    this.waiting = 0; // requests that are not answered yet
  }

  /** Begin with a page of the report. */
  start({ revision, progress }) {
    this.revision = Math.max(this.revision, revision);
    this.progress = progress;
  }

  /** What each request says: which decisions are known, and which groups are counted. */
  since() {
    return { since: this.revision, where: state.where || null };
  }

  of(group) {
    const newer = this.known.get(group.key);
    return newer && newer.revision >= group.decision.revision ? newer : group.decision;
  }

  /** Decide about one group. keep: ids, if the choice is "keep". */
  decide(group, choice, keep = []) {
    const before = this.of(group);
    const now = { ...before, choice, keep, stays: [], outdated: false, revision: before.revision };
    this.known.set(group.key, { ...now, revision: Infinity }); // until the answer
    this.changed(false);
    return this.send(async () => {
      const { revision } = before.revision === Infinity ? { revision: this.revision } : before;
      const decisions = [{ key: group.key, choice, keep, seen: revision }];
      try {
        this.take(await api.decide({ decisions, ...this.since() }), group.key);
      } catch (error) {
        this.known.set(group.key, before);
        throw error;
      }
    });
  }

  /** Undo the last step of this tab. */
  undo() {
    return this.send(async () => {
      const step = this.steps.pop();
      if (!step) return;
      const answer = await api.undoDecisions({ batch: step.batch, ...this.since() }).catch((error) => {
        this.steps.push(step); // it can still be undone
        throw error;
      });
      this.learn(answer);
      toast(answer.count ? words.copies.undone(answer.count) : words.copies.notUndone);
    });
  }

  /** Apply a rule to all open groups. */
  apply(rule) {
    return this.send(async () => {
      const answer = await api.copyRule({ ...rule, dry: false, ...this.since() });
      this.take(answer, "");
      toast(words.copies.ruleDone(answer.count));
    });
  }

  /** Look for the decisions of other tabs. */
  async look() {
    if (this.waiting || document.hidden || !api.can.review) return;
    try {
      const answer = await api.reviewChanges(this.since());
      if (this.waiting || answer.revision <= this.revision) return;
      const many = answer.reload ? answer.revision - this.revision : answer.changed.length;
      this.learn(answer);
      if (many) toast(words.copies.others(many));
    } catch {
      // the next look may find the server again
    }
  }

  /** @param {HTMLElement} root of the view. */
  watch(root) {
    setInterval(() => root.hidden || !this.progress || this.look(), LOOK);
    document.addEventListener("visibilitychange", () => root.hidden || !this.progress || this.look());
  }

  /** Send one request after the other, so that the server gets the decisions in their order. */
  send(request) {
    this.waiting++;
    this.sending = this.sending.then(request).catch((error) => toast(words.copies.notSaved(error.message)));
    return this.sending.then(() => {
      this.waiting--;
      this.changed(false);
    });
  }

  take(answer, key) {
    if (answer.count) this.steps.push({ batch: answer.batch, count: answer.count });
    this.learn(answer);
    if (key && answer.overwritten.includes(key)) toast(words.copies.overwritten);
  }

  learn(answer) {
    this.revision = answer.revision;
    this.progress = answer.progress;
    for (const { key, decision } of answer.changed) this.known.set(key, decision);
    if (answer.reload) this.known.clear();
    this.changed(answer.reload);
  }
}
