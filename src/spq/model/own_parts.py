"""Parts of a model that are the caller's own code. Model folder and checkpoint record their names, but not their code.

So the parts have to be given again: backbone and quantizer to load a model, all of them to resume a training.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from spq.config import Recipe
from spq.errors import ConfigError, ModelError

PARTS = ("loss", "backbone", "views", "quantizer")
LOADED = ("backbone", "quantizer")  # a model works only with them
OWN = "given/"  # before its class, in `backbone.name` and `quantizer.kind` of the recipe
MOST = 200  # characters of a description
Parts = dict[str, dict[str, str]]  # of each part that is the caller's: its "class" and "description"


def recorded(**given: object) -> Parts:
    """Return what is recorded of the parts that are given; None and names in text are not the caller's code.

    >>> recorded(loss=dict, views=None, backbone="timm/resnet18")
    {'loss': {'class': 'builtins.dict', 'description': "<class 'dict'>"}}
    """
    own = {name: part for name, part in given.items() if part is not None and not isinstance(part, str)}
    return {name: {"class": full_name(part), "description": _described(part)} for name, part in own.items()}


def full_name(part: object) -> str:
    """Return module and name of a function, or of the class of any other object."""
    while isinstance(part, functools.partial):
        part = part.func
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}.{named.__qualname__}"


def check_call(option: str, part: Any, names: Sequence[str], why: str = "") -> None:
    """Refuse a part of the caller that does not take what training gives it.

    Args:
        option: its name, such as loss. part: a module, a function or a method. names: of the arguments, in their order.
        why: it takes these, after a space.
    Raises:
        ConfigError: names the arguments that it must take.
    """
    taken = ", ".join(names)
    if not callable(part):
        raise ConfigError(f"`{option}` must be a module or a function of ({taken}), got {type(part).__name__}")
    called = getattr(part, "forward", part) if hasattr(part, "register_forward_hook") else part
    try:
        inspect.signature(called).bind(*names)
    except TypeError:
        raise ConfigError(f"`{option}` {full_name(part)} cannot be called{why}: it must take ({taken})") from None
    except ValueError:  # a function without a signature, such as one of C
        pass


def _described(part: object) -> str:
    """Return the `repr` of a part in one line, without addresses in memory."""
    text = " ".join(repr(part).split())
    if " at 0x" in text or isinstance(part, functools.partial):  # the arguments of a partial may be private
        return ""
    return text if len(text) <= MOST else text[: MOST - 3] + "..."


def checked_parts(found: Any) -> Parts:
    """Return recorded parts as they were read from a file; {} if there are none.

    Raises:
        ValueError: they are not what `recorded` returns.
    """
    if found is None:
        return {}
    is_valid = isinstance(found, dict) and all(
        name in PARTS and isinstance(part, dict) and all(isinstance(part.get(key), str) for key in ("class", "description"))
        for name, part in found.items()
    )  # fmt: skip
    if not is_valid:
        raise ValueError("the parts of the model are no table of their names")
    parts: Parts = found
    return parts


def needed_parts(config: Any) -> list[str]:
    """Return the names of the parts without which a model does not load, by the content of its `config.json`."""
    try:
        recipe, facts = config["recipe"], config.get("training") or {}
        names = {"backbone": str(recipe["backbone"]["name"]), "quantizer": str(recipe["quantizer"].get("kind"))}
        found = {*(facts.get("parts") or {}), *(part for part, name in names.items() if name.startswith(OWN))}
    except (TypeError, KeyError, AttributeError):
        return []
    return [part for part in LOADED if part in found]


def parts_of(facts: Any, recipe: Recipe) -> Parts:
    """Return the parts that are recorded in the facts of a training, or {}; damaged facts are reported elsewhere.

    The recipe names backbone and quantizer of the caller's too, as models from before they were recorded do.
    """
    found = facts.get("parts") if isinstance(facts, dict) else None
    try:
        parts = checked_parts(found)
    except ValueError:
        parts = {}
    names = {"backbone": recipe.backbone.name, "quantizer": recipe.quantizer.kind}
    own = {part: name.removeprefix(OWN) for part, name in names.items() if name.startswith(OWN)}
    return {part: {"class": name, "description": ""} for part, name in own.items()} | parts


def check_loaded(model: str, parts: Parts, given: Mapping[str, object]) -> None:
    """Refuse to load a model without the parts that are the caller's, or with others.

    Args:
        model: its folder, for the error. parts: recorded of the model. given: those that the caller gives, or None.
    Raises:
        ModelError: names the part, its class, and how to give it.
    """
    now = recorded(**given)
    for name in LOADED:
        if name in parts and name not in now:
            own = parts[name]["class"]
            raise ModelError(
                f"model {model} was trained with your own {name} {own}, and its code is not in the folder; open it in "
                f"Python: SPQ.load(folder, {name}={_simple(own)}(...))"
            )
        if name in now and name not in parts:
            raise ModelError(f"model {model} has the {name} of its recipe, no own one; omit `{name}`")
        if name in now and _simple(now[name]["class"]) != _simple(parts[name]["class"]):
            raise ModelError(
                f"model {model} was trained with your own {name} {parts[name]['class']}, not {now[name]['class']}; give "
                "that one"
            )


def check_resumed(parts: Parts, now: Parts, out: str) -> str:
    """Refuse to resume a training without the caller's own parts that it began with, or with others.

    Returns:
        a note on parts of the same class that look different now, for example with another temperature; or "".

    Args:
        parts: recorded in the checkpoint. now: recorded of the parts that are given. out: folder of the training.
    Raises:
        ConfigError: names the part, its class, and the remedy.
    """
    for name in PARTS:
        if name in parts and name not in now:
            own = parts[name]["class"]
            raise ConfigError(
                f"the training in {out} began with your own {name} {own}; continue it in Python: "
                f"SPQ.train(..., {name}={_simple(own)}(...), resume=True)"
            )
        if name in now and name not in parts:
            raise ConfigError(
                f"the training in {out} began with the {name} of its recipe, not with {now[name]['class']}; omit `{name}`, "
                "or give a new `out`"
            )
        if name in now and _simple(now[name]["class"]) != _simple(parts[name]["class"]):
            raise ConfigError(
                f"the training in {out} began with your own {name} {parts[name]['class']}, not with {now[name]['class']}; "
                "give that one, or a new `out`"
            )
    seen = [(parts[name]["description"], now[name]["description"]) for name in now]
    changed = [f"{before}, now {after}" for before, after in seen if before and after and before != after]
    return f"the training in {out} began with {'; '.join(changed)}" if changed else ""


def _simple(full: str) -> str:
    """Return a name without its module, which may change: a script is `__main__`, and a package when it is imported."""
    return full.rpartition(".")[2]
