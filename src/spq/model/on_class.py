"""`on_class`: a class method that leaves the name free for a method of instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from builtins import classmethod as on_class
else:

    class on_class(classmethod):  # noqa: N801
        """As `classmethod`, when it is called on the class. An instance has the method of the same name of `nn.Module`.

        So `SPQ.train(images)` trains a model, and `model.train()` sets the mode of a module, as everywhere in PyTorch.
        """

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                return super().__get__(instance, owner)
            return getattr(nn.Module, self.__func__.__name__).__get__(instance)


__all__ = ["on_class"]
