"""The review of copies: which groups are shown, and what the user decides about them. It changes no picture."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from spq.common.files import absolute, can_be_written, user_cache
from spq.dupes.decisions import APART, KEEP, OPEN, Changes, DecisionFile, Decisions, decided, undone
from spq.dupes.groups import KINDS
from spq.dupes.ignored import read_ignored, revise_ignored
from spq.errors import DataError
from spq.index.format import DECISIONS, NOT_DUPLICATES
from spq.index.manifest import Manifest
from spq.index.shared import Recent, SharedIndex
from spq.web.server.problems import ProblemError
from spq.web.server.report_file import collection_name
from spq.web.server.review_rules import FOLDER, UNSURE, folders_of, kept_by
from spq.web.server.review_schemas import Decide, Rule, Since, Undo
from spq.web.server.review_state import (
    Judged,
    Pair,
    ReviewState,
    freed,
    group_facts,
    is_apart,
    judged,
    pairs_of,
    pictures_of,
)

Facts = dict[str, Any]
Report = dict[str, Any]
FILTERS_KEPT = 4
MOST_CHANGES = 200  # decisions of one answer; after more, the page loads its groups again


def place_of(folder: Path, manifest: Manifest, is_copy: bool) -> Path:
    """The folder of the decisions: the index; or one in the user's cache, if the index is a copy or cannot be written."""
    if (folder / DECISIONS).exists() or (not is_copy and can_be_written(folder)):
        return folder
    return user_cache() / "decisions" / collection_name(replace(manifest, model=""))


class Review:
    """The decisions about one index, for any thread.

    Args:
        folder: of the file of decisions, see `place_of`.
    """

    def __init__(self, shared: SharedIndex, folder: Path) -> None:
        folder = absolute(folder)  # the page shows it
        self.shared, self.file, self.pairs = shared, DecisionFile(folder), folder / NOT_DUPLICATES
        self._lock = threading.Lock()
        self._states: Recent[ReviewState] = Recent(1)
        self._apart: Recent[frozenset[Pair]] = Recent(1)
        self._filters: Recent[frozenset[int]] = Recent(FILTERS_KEPT)

    def apart(self) -> frozenset[Pair]:
        """The pairs that are no duplicates, also those of `spq dupes --ignore`.

        Raises:
            DataError: the file of them cannot be read.
        """
        files = {self.pairs, self.shared.folder / NOT_DUPLICATES}

        def read() -> frozenset[Pair]:
            return frozenset(pair.key for file in files for pair in read_ignored(file))

        return self._apart.get(tuple(sorted(map(_state_of, files))), read)

    def state(self, report: Report) -> tuple[ReviewState, Decisions]:
        """The groups of a report with their decisions."""
        decisions, apart = self.file.read(), self.apart()
        key = (report["generation"], id(report["groups"]), decisions.revision, len(decisions.groups), hash(apart))
        return self._states.get(key, lambda: judged(report, decisions, apart)), decisions

    def page(
        self, report: Report, kinds: Collection[str], state: str, as_of: int | None, where: str | None
    ) -> tuple[list[Judged], Facts]:
        """The groups that are shown, and the facts of the whole report."""
        now, decisions = self.state(report)
        groups = now.shown(kinds or KINDS, state, as_of, self._ids(where))
        facts = {name: value for name, value in report.items() if name != "groups"}
        return groups, {**facts, "total": len(groups), **self._facts(now, decisions, where)}

    def decide(self, report: Report, ask: Decide) -> Facts:
        """Write decisions about groups of the report."""
        now, _ = self.state(report)
        groups = [(now.by_key.get(each.key), each) for each in ask.decisions]
        for group, each in groups:
            if group is None:
                raise ProblemError(404, f"no group {each.key} in the report of now; load the groups again")
            if each.choice == KEEP and (not each.keep or not set(each.keep) <= set(group.group["ids"])):
                raise ProblemError(422, "keep: give one or more of the group's ids; at least one picture stays")
        overwritten: list[str] = []

        def make(before: Decisions) -> Changes:
            changes = {}
            for group, each in groups:
                assert group is not None
                old = before.groups.get(each.key)
                if old and old.revision > each.seen:
                    overwritten.append(each.key)
                kept = {n for n, id_ in enumerate(group.group["ids"]) if id_ in each.keep}
                changes[each.key] = decided(old, each.choice, pictures_of(group.group, kept))
            return changes

        return {**self._write(report, make, ask), "overwritten": overwritten}

    def undo(self, report: Report, ask: Undo) -> Facts:
        """Undo one step, as far as its groups were not decided again since."""
        return {**self._write(report, lambda before: undone(before, ask.batch), ask), "overwritten": []}

    def rule(self, report: Report, ask: Rule) -> Facts:
        """Apply a rule to the undecided groups that are shown, or only say what it would do."""
        now, _ = self.state(report)
        open_groups = now.shown(ask.kinds, "open", None, self._ids(ask.where))
        found = [
            (each, kept) for each in open_groups if (kept := kept_by(each.group, ask.rule, ask.folder)) is not None
        ]
        gone: dict[int, int] = {}
        for each, kept in found:
            gone |= {item["id"]: freed(item) for n, item in enumerate(each.group["items"]) if n not in kept}
        would = {"open": len(open_groups), "groups": len(found), "pictures": len(gone), "bytes": sum(gone.values())}
        if ask.dry:
            folders = folders_of(each.group for each in open_groups) if ask.rule == FOLDER else []
            return {**would, "folders": [{"folder": folder, "groups": count} for folder, count in folders]}

        def make(before: Decisions) -> Changes:
            return {
                each.group["key"]: decided(before.groups.get(each.group["key"]), KEEP, pictures_of(each.group, kept))
                for each, kept in found
                if _is_open(before, each)
            }

        return {**self._write(report, make, ask), "overwritten": [], **would}

    def changes(self, report: Report, ask: Since) -> Facts:
        """The decisions that are newer than a revision: another tab may have made them."""
        now, decisions = self.state(report)
        return self._changed(now, decisions, ask)

    def _write(self, report: Report, make: Callable[[Decisions], Changes], ask: Since) -> Facts:
        with self._lock:
            changed: dict[str, str] = {}

            def noted(before: Decisions) -> Changes:
                changes = make(before)
                changed.update({key: new.choice for key, new in changes.items()})
                return changes

            decisions = self.file.change(noted)
            now, _ = self.state(report)
            self._remember(now, changed)
            now, _ = self.state(report)
            return {**self._changed(now, decisions, ask), "batch": decisions.revision, "count": len(changed)}

    def _remember(self, now: ReviewState, changed: dict[str, str]) -> None:
        """Keep the file of pairs that are no duplicates in step with the decisions."""
        groups = {key: now.by_key[key].group for key in changed if key in now.by_key}
        apart = self.apart()
        add = [pair for key, group in groups.items() if changed[key] == APART for pair in pairs_of(group)]
        drop = [
            pair.key
            for key, group in groups.items()
            if changed[key] != APART and is_apart(group, apart)
            for pair in pairs_of(group)
        ]
        if not (add or drop):
            return
        try:
            revise_ignored(self.pairs, add, drop)
        except OSError as error:
            raise DataError(f"{self.pairs} cannot be written: {error.strerror}; give yourself permission") from None

    def _changed(self, now: ReviewState, decisions: Decisions, ask: Since) -> Facts:
        newer = [each for each in now.groups if each.revision > ask.since]
        some = newer if len(newer) <= MOST_CHANGES else []
        return {
            **self._facts(now, decisions, ask.where),
            "changed": [{"key": each.group["key"], "decision": each.facts()} for each in some],
            "reload": len(newer) > len(some),
        }

    def _facts(self, now: ReviewState, decisions: Decisions, where: str | None) -> Facts:
        return {
            "revision": decisions.revision,
            "progress": now.progress(self._ids(where)),
            "remark": self.file.remark(),
        }

    def _ids(self, where: str | None) -> frozenset[int] | None:
        """The items that a filter matches; None without one."""
        if not where:
            return None
        gallery = self.shared.gallery

        def match() -> frozenset[int]:
            rows = self.shared.rows(self.shared.of_thread().store, gallery, where).rows
            return frozenset(gallery.ids_of(rows).tolist())

        return self._filters.get((gallery.version, where), match)


def shown_kinds(kinds: Iterable[str]) -> list[str]:
    """The kinds that are requested; by default all but those that only look alike."""
    return list(kinds) or [kind for kind in KINDS if kind != UNSURE]


def page_facts(groups: list[Judged], facts: Facts, offset: int, top: int) -> Facts:
    """One page of groups as the API gives it."""
    return {**facts, "groups": [group_facts(each) for each in groups[offset : offset + top]]}


def _is_open(before: Decisions, each: Judged) -> bool:
    decision = before.groups.get(each.group["key"])
    return decision is None or decision.choice == OPEN or each.is_outdated


def _state_of(file: Path) -> tuple[str, int, int, int]:
    try:
        status = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), status.st_ino, status.st_mtime_ns, status.st_size
