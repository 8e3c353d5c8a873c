"""The trainer as `decalage bench train` drives it, a step at a time, by mlx or by PyTorch."""

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from worker.training import backends
from worker.training.events import Event, Stepped
from worker.training.loop import Pass, Trainer
from worker.training.pairs import MemoryCorpus
from worker.training.recipe import Device, Recipe
from worker.training.start import architecture, random_model

WAIT_K: Final = 3


class Step(msgspec.Struct, frozen=True):
    """One step of a loop."""

    loss: float  # nats a label, smoothing included
    num_tokens: int  # source and target, padding left out
    spent_s: float


class Loop(Protocol):
    """Something that makes steps."""

    @property
    def library(self) -> str:
        """What computes the gradients."""

    @property
    def tolerance(self) -> float:
        """Nats a label by which its first loss may differ from the trainer's in fp32."""

    def step(self, chosen: Pass) -> Step:
        """A full step on this batch."""


class Ours:
    """The trainer, with a model of random weights that the plan's seed tells."""

    def __init__(self, plan: Recipe, corpus: MemoryCorpus, device: Device = "mlx") -> None:
        self.library = f"MLX {metadata.version('mlx')}" if device == "mlx" else f"{torch_name()}, bf16"
        self.tolerance = 0.0 if device == "mlx" else 0.02
        self.model = random_model(architecture(plan.shape, plan.shape.vocabulary), seed=plan.seed)
        self._told: list[Event] = []
        plan = replace(plan, device=device)
        backend = backends.of_model(plan, self.model, architecture(plan.shape, plan.shape.vocabulary))
        self._trainer = Trainer(plan, backend, corpus, MemoryCorpus(), directory=Path(), report=self._told.append)

    def passes(self) -> Iterator[Pass]:
        """Without end."""
        return self._trainer.passes()

    def step(self, chosen: Pass) -> Step:
        """A full step on this batch."""
        start_s = perf_counter()
        self._trainer.step(iter([chosen]))
        spent_s = perf_counter() - start_s
        (told,) = (event for event in self._told if isinstance(event, Stepped))
        self._told.clear()
        return Step(told.loss, told.num_tokens, spent_s)


def torch_name() -> str:
    """PyTorch with its version, without what it was built for."""
    return f"PyTorch {metadata.version('torch').partition('+')[0]}"
