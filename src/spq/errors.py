"""The error tree. Each message is one line: the wrong value, then the remedy.

A message writes a parameter in backticks, by its Python name: `image_size`. The command line shows it as its option,
--image-size, prints the message on stderr and ends with `exit_status`.
"""

from __future__ import annotations


class SPQError(Exception):
    """Base class of all errors of spq."""

    exit_status = 1


class ConfigError(SPQError):
    """A wrong option, recipe or call (usage error)."""

    exit_status = 2


class StoppedError(SPQError):
    """The user stopped a command. The message says what is kept and how to continue."""

    exit_status = 130


class CodebookError(ConfigError):
    """Codebooks of an invalid shape."""


class DataError(SPQError):
    """A collection that is missing, empty or damaged."""


class AbsentError(DataError):
    """A collection that is not there, or is empty: its disk may not be mounted.

    Attributes:
        is_there: the folder is there, but cannot be listed.
    """

    def __init__(self, message: str, is_there: bool = False) -> None:
        super().__init__(message)
        self.is_there = is_there


class LossError(DataError):
    """An update would remove more pictures of an index than people usually delete."""


class ImageError(DataError):
    """One picture that cannot be read. A collection lists it and continues without it."""


class ShutError(ImageError):
    """A picture whose file the system does not open now: it may not be read, or its disk has a fault."""


class ModelError(SPQError):
    """A model folder that this version cannot load."""


class WeightsError(SPQError):
    """Pretrained weights that are not on this machine, and cannot be downloaded."""


class StoreError(SPQError):
    """An index folder that cannot be opened, or an item that is not in it."""


class MovedError(StoreError):
    """An index whose items were moved into shards since it was opened; it has to be opened again."""


class TimeLimitError(StoreError):
    """A query that took longer than its time limit."""


class ShardsMissingError(StoreError):
    """Shards that were not searched in time, and an answer without them is not accepted.

    Attributes:
        missing: pictures in these shards that could have been answers.
    """

    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing:,} pictures could not be searched in time; try again, or accept a `partial` answer")
        self.missing = missing


class ModelMismatchError(StoreError):
    """Codes or queries of one model, used with the index of another."""


class SpaceError(SPQError):
    """A disk without room for what a command is going to write; nothing was written yet."""


class CollapseError(SPQError):
    """Training ended with descriptors or codes that are nearly the same for all pictures."""


class ProcessesError(SPQError):
    """Training on several processes cannot go on, because another one of them has ended."""
