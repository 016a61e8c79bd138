"""The JSON of the review of copies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from spq.web.server.schemas import MAX_WHERE, Computing, Id

MAX_DECISIONS = 1000
MAX_KEPT = 100_000
Kind = Literal["identical", "re-encoded", "edited", "almost", "burst", "similar"]
Revision = Annotated[StrictInt, Field(ge=0, le=2**53 - 1)]


class Decision(BaseModel):
    """A decision about a group. keep: ids of its pictures that stay, if choice is `keep`; `apart`: they are no duplicates;
    `open`: not decided. seen: revision of the decision that the page shows, to notice a newer one of another tab."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[str, Field(pattern="^[0-9a-f]{20}$")]
    choice: Literal["keep", "apart", "open"]
    keep: Annotated[list[Id], Field(max_length=MAX_KEPT)] = []
    seen: Revision = 0


class Since(BaseModel):
    """since: the answer holds the decisions that are newer than this revision. where: of the groups that are counted."""

    model_config = ConfigDict(extra="forbid")

    since: Revision = 0
    where: Annotated[str, Field(max_length=MAX_WHERE)] | None = None


class Decide(Since):
    """Decisions about groups of the report."""

    decisions: Annotated[list[Decision], Field(min_length=1, max_length=MAX_DECISIONS)]


class Undo(Since):
    """A step to undo: `batch` of its answer."""

    batch: Revision


class Rule(Since):
    """A rule for all undecided groups of some kinds. dry: only say what it would do. folder: of the rule `folder`."""

    rule: Literal["suggested", "oldest", "newest", "largest", "pixels", "folder"]
    kinds: Annotated[list[Kind], Field(min_length=1, max_length=6)]
    folder: Annotated[str, Field(max_length=4000)] = ""
    dry: StrictBool = True


class GroupDecision(BaseModel):
    """What was decided. stays: pictures that would go, but are kept in another group. outdated: a picture has changed since."""

    choice: Literal["keep", "apart", "open"]
    keep: list[int]
    stays: list[int]
    revision: int
    outdated: bool


class DuplicateGroup(BaseModel):
    """Pictures that belong together. confirmed: whether they are copies; else nothing should be deleted. keep: the one to keep,
    and why, or the one that the others are compared with; ids: all of them, that one first; reasons: what each of `ids` is to it;
    items: the same pictures as items; suggested: ids that the report would keep; key: of the pictures' content."""

    key: str
    kind: Kind
    confirmed: bool
    keep: int
    why: str
    ids: list[int]
    reasons: list[str]
    items: list[dict[str, Any]]
    suggested: list[int]
    decision: GroupDecision


class OfKind(BaseModel):
    """How many groups of a kind there are, and how many are decided."""

    groups: int
    decided: int


class ReviewProgress(BaseModel):
    """Groups by kind; pictures that go by the decisions so far, and the bytes that this frees; decisions that are outdated."""

    kinds: dict[str, OfKind]
    dropped: int
    freed: int
    outdated: int


class Duplicates(BaseModel):
    """A page of the groups that spq dupes finds. total: groups that match the request; stale: the index has changed since, and a
    new report is being made; revision: of the decisions; remark: what the user should know about the
    file of decisions; place: that file, for those who may decide."""

    pictures: int
    groups: list[DuplicateGroup]
    total: int
    threshold: dict[str, float] | None
    left_out: int
    generation: int
    stale: bool
    revision: int
    progress: ReviewProgress
    remark: str
    place: str | None


class Changed(BaseModel):
    """A decision that is newer than `since`."""

    key: str
    decision: GroupDecision


class ReviewChanges(BaseModel):
    """What has changed. reload: there is more than fits here. batch: to undo this step. overwritten: groups that somebody else
    had decided meanwhile. count: decisions written. The others are those of a rule: groups that are open, and what it decides."""

    revision: int
    progress: ReviewProgress
    remark: str
    changed: list[Changed] = []
    reload: bool = False
    batch: int = 0
    count: int = 0
    overwritten: list[str] = []
    open: int = 0
    groups: int = 0
    pictures: int = 0
    bytes: int = 0


class FolderGroups(BaseModel):
    """A folder, and how many groups it decides."""

    folder: str
    groups: int


class RuleEffect(BaseModel):
    """What a rule would do: of the open groups, how many it decides, and what that drops."""

    open: int
    groups: int
    pictures: int
    bytes: int
    folders: list[FolderGroups]


class ComputingReport(Computing):
    """As Computing. The stage is `step` of `steps`. remaining: seconds until its end, once that can be told."""

    step: int
    steps: int
    remaining: float | None
