"""The JSON of requests and responses, as OpenAPI describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictBool, StrictInt

MAX_IDS = 64
MAX_TOP = 1000
MAX_NUMBER = 2**53 - 1  # the largest integer that JavaScript keeps exactly
MAX_WHERE = 4000

Id = Annotated[StrictInt, Field(ge=0, le=MAX_NUMBER)]
Ids = Annotated[list[Id], Field(max_length=MAX_IDS)]
PictureName = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
PictureNames = Annotated[list[PictureName], Field(max_length=MAX_IDS)]


class Ask(BaseModel):
    """A search request, without the pictures that are sent with it. It becomes a `SearchRequest`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"ids": [17], "top": 20},
                {"ids": [17, 4], "not_ids": [9], "top": 50, "offset": 50, "where": "width >= 640", "fold": True},
            ]
        },
    )

    ids: Ids = Field(default=[], description="Query items: the answers should be like them.")
    not_ids: Ids = Field(default=[], description="Negative items: the answers should not be like them.")
    pictures: PictureNames = Field(
        default=[],
        description="Query pictures of an earlier request, as its answer names them. 409 if the server keeps one no longer.",
    )
    not_pictures: PictureNames = Field(default=[], description="Negative pictures of an earlier request.")
    weights: Annotated[list[Annotated[FiniteFloat, Field(ge=0)]], Field(max_length=4 * MAX_IDS)] | None = Field(
        default=None,
        description="One for each picture, sent ones first, then each id; then each negative picture, then each negative id.",
    )
    box: Annotated[list[StrictInt], Field(min_length=4, max_length=4)] | None = Field(
        default=None,
        description="x, y, width, height of a region in pixels of the upright picture; only with one picture or id.",
    )
    top: Annotated[StrictInt, Field(ge=1, le=MAX_TOP)] = 20
    offset: Annotated[StrictInt, Field(ge=0, le=MAX_NUMBER)] = 0
    where: Annotated[str, Field(max_length=MAX_WHERE)] | None = Field(
        default=None, description="Search among the items that match this filter, as in spq search --where."
    )
    max_distance: FiniteFloat | None = Field(default=None, description="Leave out items with a larger distance.")
    fold: StrictBool = Field(default=False, description="One answer for items of the same code.")
    partial: StrictBool = Field(
        default=False,
        description="Accept hits without the shards that do not answer in time; by default the answer is 503 then.",
    )


class AskWhy(Ask):
    """A search request, and the item whose distance to explain."""

    id: Id


class Hit(BaseModel):
    """One hit. folded: further items of the same code, the first 100 of folded_total.

    code_distance: between its code and that of the query, in the unit of the bands; null for several query pictures.
    same_file: whether it has the bytes of a query picture.
    """

    rank: int
    id: int
    distance: float
    path: str
    label: str | None
    width: int
    height: int
    folded: list[int]
    folded_total: int
    code_distance: float | None
    same_file: bool


class Hits(BaseModel):
    """The hits of a search, all of one state of the index: of this generation, and of the codes of this model.

    compared: whether distances are measured from one picture; from the code of an item whose picture cannot be read; or from
    several pictures, for which there are no bands.
    total: items that could be hits: all, or those that `where` matches, without the query items. partial: whether some of
    them were not searched, because their shards did not answer in time; missing: how many. pictures, not_pictures: names of
    the pictures that were sent, which the next request may send in their place.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "hits": [
                        {
                            "rank": 1, "id": 4, "distance": 0.81, "path": "shoes/4.jpg", "label": "shoes", "width": 640,
                            "height": 480, "folded": [], "folded_total": 0, "code_distance": 0.62, "same_file": False,
                        }
                    ],
                    "compared": "picture",
                    "total": 5000, "seconds": 0.004, "generation": 20, "model": "9f1c0c7a5e0d4b1a",
                    "partial": False, "missing": 0, "pictures": [], "not_pictures": [],
                }
            ]
        }
    )  # fmt: skip

    hits: list[Hit]
    compared: Literal["picture", "code", "several"]
    total: int
    seconds: float
    generation: int
    model: str
    partial: bool
    missing: int
    pictures: list[str]
    not_pictures: list[str]


class Item(BaseModel):
    """A picture of the index. size: bytes of the file; time: last change of the file; code: the M sub-codes."""

    id: int
    path: str
    label: str | None
    width: int
    height: int
    size: int
    time: str
    metadata: dict[str, Any]
    code: list[int]


class Items(BaseModel):
    """A page of items."""

    items: list[Item]
    total: int
    generation: int


class CodewordItems(BaseModel):
    """Items that use codeword k of codebook m, the most typical first."""

    m: int
    k: int
    count: int
    items: list[Item]


class Codewords(BaseModel):
    """How often codewords are used. counts[m][k]: items that use codeword k of codebook m."""

    codebooks: int
    codewords: int
    counts: list[list[int]]


class Part(BaseModel):
    """What codebook m adds to a distance; it may be below 0. nearest: its codeword nearest to the query."""

    m: int
    codeword: int
    nearest: int
    distance: float
    share: float


class Explanation(BaseModel):
    """Why an item has its distance. total: the distance, which is the sum of the parts. pictures: as in Hits."""

    total: float
    parts: list[Part]
    pictures: list[str]
    not_pictures: list[str]


class Sync(BaseModel):
    """A running sync, or the last one. total is 0 until all pictures of the collection have been listed."""

    done: int
    total: int
    failed: int
    running: bool


class LastSync(BaseModel):
    """The last sync that found changes."""

    added: int
    changed: int
    removed: int
    renamed: int
    time: str


class ColumnOf(BaseModel):
    """A column for `where`, named as a filter names it. values: all its values, if they are few."""

    name: str
    kind: Literal["text", "number", "time"]
    values: list[str] = []


class Status(BaseModel):
    """The index and its sync. new_since: generation before the last sync, for /api/browse?order=new&since=."""

    name: str
    images: int
    unreadable: int
    bits: int
    bytes_per_image: int
    distance: str
    model: str
    codebooks: int
    codewords: int
    watching: bool
    generation: int
    sync: Sync | None
    sync_error: str | None
    last_sync: LastSync | None
    new_since: int | None
    columns: list[ColumnOf]


class Computing(BaseModel):
    """Not ready yet; try again in a second. stage: what is done now; total: of this stage, which may grow."""

    state: Literal["computing"] = "computing"
    stage: str
    done: int
    total: int


class Arranging(BaseModel):
    """Why a map is not arranged by neighbours: this is still computed, the library for it is missing, or it failed."""

    state: Literal["computing", "missing", "failed"]
    stage: str
    done: int
    total: int


class FacetValue(BaseModel):
    """A value: how many pictures have it, and the filter that chooses it, or that gives it up if it is chosen."""

    text: str
    count: int
    chosen: bool
    where: str
    conditions: list[str]


class Facet(BaseModel):
    """A column with its values. more: how many further values it has."""

    name: str
    values: list[FacetValue]
    more: int


class Facets(BaseModel):
    """What pictures can be chosen by. total: pictures that the filter matches."""

    total: int
    facets: list[Facet]


class MapValues(BaseModel):
    """A value for each picture of a map (`ids`, int32). The numbers are little-endian, in base64.

    kind text: values (uint8) are places in `names`, len(names) for another name and len(names) + 1 for none. kind number: values
    (float32), NaN for none; low, high: between which nearly all are. kind time: the same, in months since the year 0.
    """

    kind: Literal["text", "number", "time"]
    ids: str
    values: str
    names: list[str]
    counts: list[int]
    low: float
    high: float


class MapProgress(BaseModel):
    """arranging: nothing when the map is arranged by neighbours."""

    arranging: Arranging | None


class Map(BaseModel):
    """Pictures as points on a plane. ids (int32), x and y (float32): `count` numbers, little-endian, in base64.

    method: how the points were placed; arranging: why not by neighbours.
    """

    ids: str
    x: str
    y: str
    count: int
    total: int
    method: Literal["pca", "neighbours"]
    arranging: Arranging | None
    generation: int


class Problem(BaseModel):
    """An error (RFC 9457). detail: what is wrong, in one line."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "no item 5; ids are those of hits",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
