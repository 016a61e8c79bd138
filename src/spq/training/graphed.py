"""Forward and backward pass of a training step as one CUDA graph.

A step launches some thousand small kernels, one after the other by the host: on a fast GPU that takes longer than the work itself
(docs/log.md). Recorded once, they are launched together. Random numbers go on being drawn from the step's own seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

Step = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]  # rows of a batch -> loss, and a tensor to look at
WARM_UP = 3  # steps before a recording, in which libraries choose their kernels


class GraphedStep:
    """Call it for the gradients of a step; it returns loss and tensor of `step`, both detached.

    Args:
        step: all of its tensors must stay where they are, and no number may come back to the host in it.
        modules: whose parameters get gradients. state: tensors that a step changes, other than buffers of the modules.
        on: record where there is a CUDA device; elsewhere, and where recording fails, each step runs as it is.
    """

    def __init__(
        self,
        step: Step,
        modules: Iterable[nn.Module],
        device: torch.device,
        on: bool,
        state: Sequence[Tensor] = (),
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.step, self.modules, self.on_note = step, list(modules), on_note
        self.parameters = [p for module in self.modules for p in module.parameters() if p.requires_grad]
        self.state = [*state, *(buffer for module in self.modules for buffer in module.buffers())]
        self.on = on and device.type == "cuda"
        self.device, self.key = device, object()

    def __call__(self, rows: Tensor, generator: torch.Generator, key: object = None) -> tuple[Tensor, Tensor]:
        """Gradients of a step on these rows.

        Args:
            key: a step of another key, such as the size of the views, is recorded anew.
        """
        if self.on and key != self.key:
            self._record(rows, key)
        if not self.on:
            self._clear()
            loss, x = self.step(rows, generator)
            torch.autograd.backward(loss)
            return loss.detach(), x.detach()
        self.rows.copy_(rows)
        self.generator.manual_seed(generator.initial_seed())
        self.graph.replay()
        return self.loss, self.x

    def _record(self, rows: Tensor, key: object) -> None:
        before = [tensor.clone() for tensor in self.state]
        self.key, self.rows, self.generator = key, rows.clone(), torch.Generator(self.device)
        try:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self._run()
            torch.cuda.current_stream().wait_stream(side)
            self._clear()
            self.graph = torch.cuda.CUDAGraph()
            self.graph.register_generator_state(self.generator)
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                loss, x = self.step(self.rows, self.generator)
                torch.autograd.backward(loss)
                self.loss, self.x = loss.detach(), x.detach()
            del loss, x
        except RuntimeError as error:
            self.on = False
            if self.on_note:
                self.on_note(f"steps are not recorded as CUDA graphs, which is slower: {str(error).splitlines()[0]}")
        for tensor, value in zip(self.state, before, strict=True):
            tensor.copy_(value)

    def _run(self) -> None:
        self._clear()
        loss, _ = self.step(self.rows, self.generator)
        torch.autograd.backward(loss)

    def _clear(self) -> None:
        for p in self.parameters:
            p.grad = None
