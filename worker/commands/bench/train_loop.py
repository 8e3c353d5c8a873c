"""Training steps of the trainer and, where PyTorch is installed, of an equal loop of its own, in turns."""

from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from worker.commands.bench.machine import machine_facts
from worker.commands.bench.progress import progress
from worker.commands.bench.train_work import Workload, random_pairs
from worker.commands.faults import CommandError
from worker.engine.model import StreamingModel
from worker.training.batches import MULTIPLE, Place
from worker.training.checkpoint import weights_of
from worker.training.data import Corpus
from worker.training.events import Event, Stepped
from worker.training.loop import Batches, Trainer
from worker.training.memory import keep_memory
from worker.training.objective import Batch, Ints, make_batch
from worker.training.recipe import Recipe
from worker.training.start import architecture, check_shape, random_model

if TYPE_CHECKING:
    from worker.commands.bench.train_torch import TorchLoop

_WAIT_K = 3
_TOLERANCE = 1e-3  # nats, between the losses of the first batch


class Speed(msgspec.Struct, frozen=True):
    """What a loop has made of its measured steps."""

    library: str
    tokens_per_s: float  # median
    slowest_tokens_per_s: float
    fastest_tokens_per_s: float
    step_ms: float  # median
    first_loss: float  # nats a label, smoothing included


class Speeds(msgspec.Struct, frozen=True):
    """Both loops on one machine; `torch` and `ratio` are None where PyTorch is not installed."""

    workload: Workload
    num_parameters: int
    machine: dict[str, Any]
    ours: Speed
    torch: Speed | None
    ratio: float | None  # ours to PyTorch's, of the medians


class Step(msgspec.Struct, frozen=True):
    """One step of a loop."""

    loss: float
    num_tokens: int  # source and target, padding left out
    spent_s: float


def measure(workload: Workload) -> Speeds:
    """The speeds of both loops on this machine, in turns.

    Raises CommandError where the loops do not compute the same, TrainingError for a shape that no model can have.
    """
    check_shape(workload.shape)
    machine = machine_facts()
    keep_memory()  # of the whole process, so for both
    plan = Recipe(
        (), (), workload.steps + 1, wait_k=(_WAIT_K,), tokens_per_batch=workload.tokens_per_batch, shape=workload.shape
    )
    ours = _Ours(plan, random_pairs(workload))
    theirs = _torch_loop(plan, ours.model)
    rounds = _in_turns(ours, theirs, plan.steps)
    mine = _speed(f"MLX {metadata.version('mlx')}", [step for step, _ in rounds])
    other = None if theirs is None else _speed(theirs.library, [step for _, step in rounds if step])
    return Speeds(
        workload=workload,
        num_parameters=ours.model.num_parameters,
        machine=machine,
        ours=mine,
        torch=other,
        ratio=None if other is None else round(mine.tokens_per_s / other.tokens_per_s, 3),
    )


def check_equal(ours: Step, theirs: Step) -> None:
    """Raises CommandError where the losses of the same batch by the same weights differ."""
    if not abs(ours.loss - theirs.loss) <= _TOLERANCE:  # also when one is no number
        raise CommandError(
            f"the first batch has a loss of {ours.loss:.4f} here and of {theirs.loss:.4f} in PyTorch, expected the "
            f"same within {_TOLERANCE:g}: the loops do not compute the same, so their speeds cannot be compared",
            code="loops_differ",
        )


class _Ours:
    """The trainer, a step at a time."""

    def __init__(self, plan: Recipe, corpus: Corpus) -> None:
        self.model = random_model(architecture(plan.shape, plan.shape.vocabulary), seed=plan.seed)
        self._corpus = corpus
        self._told: list[Event] = []
        self._trainer = Trainer(plan, self.model, corpus, Corpus(), directory=Path(), report=self._told.append)

    def batches(self) -> Batches:
        """Without end."""
        return self._trainer.batches()

    def batch(self, indices: Ints) -> Batch:
        """These pairs as the trainer puts them together."""
        return make_batch([self._corpus[int(i)] for i in indices], _WAIT_K, self.model.position_offset, MULTIPLE)

    def step(self, chosen: tuple[Ints, Place]) -> Step:
        """A full step on this batch, which is put together in it."""
        start_s = perf_counter()
        self._trainer.step(iter([chosen]))
        spent_s = perf_counter() - start_s
        (told,) = (event for event in self._told if isinstance(event, Stepped))
        self._told.clear()
        return Step(told.loss, told.num_tokens, spent_s)


def _torch_loop(plan: Recipe, model: StreamingModel) -> "TorchLoop | None":
    if find_spec("torch") is None:
        return None
    from worker.commands.bench.train_torch import TorchLoop

    return TorchLoop(plan, {name: np.array(array) for name, array in weights_of(model.inner).items()})


def _in_turns(ours: _Ours, theirs: "TorchLoop | None", steps: int) -> list[tuple[Step, Step | None]]:
    rounds: list[tuple[Step, Step | None]] = []
    with progress() as bar:
        task = bar.add_task("training steps", total=steps)
        for chosen in islice(ours.batches(), steps):
            mine = ours.step(chosen)
            other = None if theirs is None else _torch_step(theirs, ours.batch(chosen[0]))
            if other is not None and not rounds:
                check_equal(mine, other)
            rounds.append((mine, other))
            bar.advance(task)
    return rounds


def _torch_step(loop: "TorchLoop", batch: Batch) -> Step:
    prepared = loop.prepare(batch)  # not measured, in PyTorch's favour: the trainer puts its batch together in its step
    start_s = perf_counter()
    loss = loop.step(prepared)
    return Step(loss, batch.num_tokens, perf_counter() - start_s)


def _speed(library: str, steps: Sequence[Step]) -> Speed:
    measured = steps[1:]
    speeds = [step.num_tokens / step.spent_s for step in measured]
    return Speed(
        library=library,
        tokens_per_s=round(median(speeds), 1),
        slowest_tokens_per_s=round(min(speeds), 1),
        fastest_tokens_per_s=round(max(speeds), 1),
        step_ms=round(1000 * median(step.spent_s for step in measured), 1),
        first_loss=steps[0].loss,
    )
