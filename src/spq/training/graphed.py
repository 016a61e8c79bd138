"""Forward and backward pass of a training step as one CUDA graph, and the update of the weights as another.

In a step, the host launches some thousand small kernels one after the other. On a fast GPU, that takes longer than the work
itself (docs/log.md). A recorded step launches them together. It still draws its random numbers from the seed of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Step = Callable[..., tuple[Tensor, Tensor]]  # (rows of a batch, generator, *settings) -> loss, descriptors
WARM_UP = 3  # steps before a recording, in which libraries choose their kernels


class GraphedStep:
    """Computes the gradients of a step; calling it returns loss and descriptors of `step`, both detached.

    Args:
        step: all of its tensors must stay at the same place in memory, and it must not copy a number to the host.
        modules: their parameters get gradients.
        on: record the step if `device` is a CUDA device. Otherwise, or if recording fails, each step runs plainly.
        state: tensors that a step changes, apart from buffers of the modules.
        on_note: called with the reason if recording fails.
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
        self.device = device
        self.settings: tuple[object, ...] | None = None

    def __call__(self, rows: Tensor, generator: torch.Generator, *settings: object) -> tuple[Tensor, Tensor]:
        """Compute the gradients of a step on these rows.

        Args:
            settings: further arguments of the step, such as the size of the views; a step with other settings is recorded
                again.
        """
        if self.on and settings != self.settings:
            self._record(rows, settings)
        if not self.on:
            return self._run(rows, generator, settings)
        self.rows.copy_(rows)
        self.generator.manual_seed(generator.initial_seed())
        self.graph.replay()
        return self.loss, self.x

    def _record(self, rows: Tensor, settings: tuple[object, ...]) -> None:
        before = [tensor.clone() for tensor in self.state]
        self.settings, self.rows, self.generator = settings, rows.clone(), torch.Generator(self.device)
        try:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self._run(self.rows, self.generator, settings)
            torch.cuda.current_stream().wait_stream(side)
            self._clear()
            self.graph = torch.cuda.CUDAGraph()
            self.graph.register_generator_state(self.generator)
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                loss, x = self.step(self.rows, self.generator, *settings)
                torch.autograd.backward(loss)
                self.loss, self.x = loss.detach(), x.detach()
            del loss, x
        except RuntimeError as error:
            self.on = False
            if self.on_note:
                self.on_note(f"steps are not recorded as CUDA graphs, which is slower: {str(error).splitlines()[0]}")
        for tensor, value in zip(self.state, before, strict=True):
            tensor.copy_(value)

    def _run(self, rows: Tensor, generator: torch.Generator, settings: tuple[object, ...]) -> tuple[Tensor, Tensor]:
        self._clear()
        loss, x = self.step(rows, generator, *settings)
        torch.autograd.backward(loss)
        return loss.detach(), x.detach()

    def _clear(self) -> None:
        for p in self.parameters:
            p.grad = None


class GraphedUpdate:
    """Changes the weights by their gradients; calling it runs each optimizer, then `after`.

    The first calls run plainly, as optimizers make their state in them. Then a call is recorded, once the gradients stay in
    their place in memory.

    Args:
        optimizers: while steps are recorded, their learning rates are tensors on the device.
        after: called after the optimizers, for example to move an average; only with tensors that stay in their place.
        on: as in `GraphedStep`, whose gradients these are.
        on_note: called with the reason if recording fails.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        after: Callable[[], None] | None,
        device: torch.device,
        on: bool,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.optimizers, self.after, self.device, self.on_note = optimizers, after, device, on_note
        self.on = on and device.type == "cuda"
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.places = self.recorded = list[int]()  # of the gradients in the last call, and in the recording
        if self.on:
            for optimizer in optimizers:
                put_on_device(optimizer, device)

    def __call__(self) -> None:
        if self.on:
            self._prepare()
        if self.graph is None:
            self._run()
        else:
            self.graph.replay()

    def _prepare(self) -> None:
        """Drop a recording of gradients that have moved, and record once they stay."""
        self.calls += 1
        before, self.places = self.places, self._places()
        if self.places != self.recorded:
            self.graph = None
        if self.graph is None and self.calls > WARM_UP and self.places == before:
            self._record()

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._run()
        except RuntimeError as error:
            self.on = False
            if self.on_note:
                self.on_note(f"updates are not recorded as CUDA graphs, which is slower: {str(error).splitlines()[0]}")
        else:
            self.graph, self.recorded = graph, self.places

    def _places(self) -> list[int]:
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return [p.grad.data_ptr() for group in groups for p in group["params"] if p.grad is not None]

    def _run(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()
        if self.after:
            self.after()


def put_on_device(optimizer: Optimizer, device: torch.device) -> None:
    """Keep learning rates and counts of steps on the device, as a recording needs them."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        if "capturable" in group:
            group["capturable"] = True
    for state in optimizer.state.values():
        if "step" in state:
            state["step"] = state["step"].to(device)
