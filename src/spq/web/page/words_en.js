/**
 * Every text of the page in English. words_de.js holds the same names in German; to add a language, copy one of them
 * and list it in words.js. A text with parts that change is a function. One section for each module, in alphabetical
 * order.
 */

import { count, number, sizeText } from "./dom.js";

export const words = {
  copies: {
    kinds: {
      identical: "Identical files",
      "re-encoded": "Re-encoded or resized",
      edited: "Edited",
      almost: "Almost the same",
      burst: "Taken within seconds",
      similar: "Only similar",
    },
    about: {
      identical: "Every byte is the same.",
      "re-encoded": "The same picture, saved again or in another size. Compared at full size.",
      edited: "The same picture, changed: grey, cropped, turned, with a border or a text. Compared at full size.",
      almost: "Not copies: one place differs, which is marked.",
      burst: "Not copies: taken by one camera within seconds.",
      similar: "Different pictures that look alike to the model.",
    },
    unconfirmed: {
      almost: "not copies: look at the marked place",
      burst: "not copies: taken within seconds",
      similar: "different pictures that look alike",
    },
    allKinds: () => "All",
    lead: () => "Decide which pictures of a group stay. spq deletes nothing: at the end you save a list or a script.",
    leadOfSite: () => "Groups of copies, as they were when this site was made.",
    falseMatches: (share) => `${(100 * share).toPrecision(2)} % of random pairs also count as similar.`,
    stale: () => "The collection has changed since. The server is making a new report.",
    noReport: () => "No report of copies",
    again: () => "Try again",
    none: () => "No copies",
    noneText: (pictures) => `All ${number(pictures)} pictures differ.`,
    noGroups: () => "No groups here",
    noGroupsText: () => "No group fits the filter and the choices above.",
    allDone: (groups) => `All ${count(groups, "group")} decided`,
    allDoneText: () => "Save the list, or the script that moves the dropped pictures to a trash folder.",
    stages: {
      "reading pictures": "Reading pictures",
      "comparing codes": "Comparing codes",
      "comparing thumbs": "Comparing small pictures",
      "laying thumbs together": "Laying small pictures over each other",
      "comparing at full size": "Comparing at full size",
      "reading dates": "Reading dates",
      "calibrating on altered copies": "Measuring how alike copies are",
    },
    working: ({ stage, done, total, step, steps, remaining }) => {
      const name = words.copies.stages[stage] ?? stage;
      const many = done < total ? `, ${number(done)} of ${number(total)}` : "";
      return `Step ${step} of ${steps}: ${name}${many}${remaining === null ? "" : `. ${words.copies.left(remaining)}`}`;
    },
    left: (seconds) =>
      seconds < 90
        ? `About ${Math.max(5, 5 * Math.round(seconds / 5))} s left in this step`
        : `About ${count(Math.round(seconds / 60), "minute")} left in this step`,
    show: () => "Show",
    shown: { open: "to decide", decided: "decided", all: "all groups" },
    withSimilar: (groups) => `also ${count(groups, "group")} of pictures that only look alike`,
    progress: (decided, groups, size) =>
      `${number(decided)} of ${count(groups, "group")} decided, ${sizeText(size)} would be freed`,
    decidedGroups: () => "Decided groups",
    outdatedMany: (many) => `${count(many, "decision")} outdated: a picture has changed since`,
    undo: () => "Undo",
    undone: (many) => `${count(many, "decision")} undone`,
    notUndone: () => "Nothing to undo: these groups were decided again since",
    others: (many) => `Another tab has decided ${count(many, "group")}`,
    overwritten: () => "Another tab had decided this group differently. Your decision counts now.",
    notSaved: (why) => `Not saved: ${why}`,
    why: (why) => (why ? `keep: ${why}` : ""),
    original: () => "suggested to keep",
    suggested: () => "Suggested",
    decided: (dropped) => `Decided: ${number(dropped)} dropped`,
    keptAll: () => "Decided: all stay",
    apart: () => "Not duplicates",
    outdated: () => "Outdated: a picture has changed since",
    accept: (dropped) => `Accept: drop ${number(dropped)}`,
    keepAll: () => "Keep all",
    noDuplicates: () => "Not duplicates",
    reopen: () => "Decide again",
    compare: () => "Compare",
    keep: () => "Keep",
    drop: () => "Drop",
    only: (n) => `Key ${n} keeps only this picture`,
    oneStays: () => "One picture of a group stays. To drop others, keep this one.",
    stays: () => "stays: kept in another group",
    top: () => "top folder",
    more: (many) => `and ${number(many)} more, which are not shown`,
    said: (choice, dropped) =>
      choice === "apart" ? "Not duplicates" : dropped ? `${count(dropped, "picture")} dropped` : "All kept",
    close: () => "Close",
    rules: () => "Rules",
    ruleFor: (kinds) =>
      `For all groups to decide of: ${kinds.join(", ").toLowerCase()}. A rule never drops a picture that shows more ` +
      "than the one that it keeps.",
    rule: {
      suggested: "Accept what is suggested",
      oldest: "Keep the oldest",
      newest: "Keep the newest",
      largest: "Keep the largest file",
      pixels: "Keep the one with the most pixels",
      folder: "Keep what is in this folder",
    },
    folder: () => "Folder",
    folderOf: (folder, groups) => `${folder || "top folder"} (${count(groups, "group")})`,
    effect: ({ groups, open, pictures, bytes }) =>
      groups
        ? `Decides ${number(groups)} of ${count(open, "group")}: ${count(pictures, "picture")} dropped, ${sizeText(bytes)}.`
        : "Decides no group.",
    apply: (groups) => (groups ? `Decide ${count(groups, "group")}` : "Decide"),
    ruleDone: (groups) => `${count(groups, "group")} decided. Undo takes all of them back.`,
    save: () => "Save",
    saveWhat: (dropped, size) => `${count(dropped, "picture")} to drop, ${sizeText(size)}. Nothing has been moved yet.`,
    saveNothing: () => "No picture is dropped so far.",
    script: () => "Script for a trash folder",
    scriptText: () =>
      "It moves the dropped pictures to a trash folder beside the collection, and deletes nothing. Without --go it " +
      "only says what it would do. A picture stays if it or the kept one has changed.",
    saveScript: () => "Save the script",
    list: () => "List",
    listText: () => "All groups with your decisions, for a spreadsheet or another program.",
    saveList: () => "Save as CSV",
  },
  details: {},
  explore: {},
  lightbox: {},
  map: {},
  results: {},
  selection: {
    many: (n) => `${count(n, "picture")} selected`,
  },
  uploads: {},
};
