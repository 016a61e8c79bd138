"""The error tree. Each message is one line: the wrong value, then the remedy.

A message writes a parameter in backticks, by its Python name: `image_size`. The command line shows it as its option,
--image-size, prints the message on stderr and ends with `exit_status`.
"""

from __future__ import annotations


class SPQError(Exception):
    """Anything that spq itself refuses."""

    exit_status = 1


class ConfigError(SPQError):
    """An option, a recipe or a call that cannot be meant: usage."""

    exit_status = 2


class CodebookError(ConfigError):
    """Codebooks of an impossible shape."""


class DataError(SPQError):
    """A collection that is missing, empty or not what it claims to be."""


class ImageError(DataError):
    """One picture that cannot be read. Collected and listed, never fatal to a collection."""


class ModelError(SPQError):
    """A model folder that cannot be loaded, or not by this version."""


class StoreError(SPQError):
    """An index folder that cannot be opened, or an item that is not in it."""


class TimeLimitError(StoreError):
    """A question to an index that took longer than it was given."""


class ModelMismatchError(StoreError):
    """Codes or queries of one model offered to the index of another."""


class CollapseError(SPQError):
    """Training ended in descriptors or codes that no longer tell pictures apart."""
