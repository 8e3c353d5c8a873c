"""Training steps of the trainer by mlx and, where PyTorch is installed, by it and of a plain loop, in turns."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from statistics import median
from typing import Any

import msgspec

from worker.commands.bench.machine import machine_facts
from worker.commands.bench.progress import progress
from worker.commands.bench.train_steps import WAIT_K, Loop, Ours, Step
from worker.commands.bench.train_work import Workload, random_pairs
from worker.commands.faults import CommandError
from worker.training.loop import Pass
from worker.training.memory import keep_memory
from worker.training.recipe import Recipe
from worker.training.start import check_shape


class Speed(msgspec.Struct, frozen=True):
    """What a loop has made of its measured steps."""

    library: str
    tokens_per_s: float  # median
    slowest_tokens_per_s: float
    fastest_tokens_per_s: float
    step_ms: float  # median
    first_loss: float  # nats a label, smoothing included
    steps_tokens_per_s: tuple[float, ...]  # of each step


class Speeds(msgspec.Struct, frozen=True):
    """All loops on one machine; where PyTorch is not installed, there is only the first."""

    workload: Workload
    num_parameters: int
    machine: dict[str, Any]
    ours: Speed
    bf16: Speed | None = None  # ours by PyTorch, with products in bf16
    torch: Speed | None = None  # a loop of PyTorch's own, in fp32
    ratio: float | None = None  # ours to PyTorch's own, of the medians
    bf16_ratio: float | None = None


def measure(workload: Workload) -> Speeds:
    """The speeds of all loops on this machine, in turns.

    Raises CommandError where the loops do not compute the same, TrainingError for a shape that no model can have.
    """
    check_shape(workload.shape)
    machine = machine_facts()
    keep_memory()  # of the whole process, so for all
    plan = Recipe(
        (), (), workload.steps + 1, wait_k=(WAIT_K,), tokens_per_batch=workload.tokens_per_batch, shape=workload.shape
    )
    loops = loops_of(plan, workload)
    speeds = [
        speed(loop.library, steps)
        for loop, steps in zip(loops, in_turns(loops, loops[0].passes(), plan.steps), strict=True)
    ]
    num_parameters = loops[0].model.num_parameters
    if len(speeds) == 1:
        return Speeds(workload, num_parameters, machine, speeds[0])
    ours, bf16, torch = speeds
    ratios = (round(each.tokens_per_s / torch.tokens_per_s, 3) for each in (ours, bf16))
    return Speeds(workload, num_parameters, machine, ours, bf16, torch, *ratios)


def loops_of(plan: Recipe, workload: Workload) -> tuple[Ours, *tuple[Loop, ...]]:
    """The trainer, and where PyTorch is installed the trainer by it and a loop of its own, all from the same
    weights.
    """
    corpus = random_pairs(workload)
    ours = Ours(plan, corpus)
    if find_spec("torch") is None:
        return (ours,)
    from worker.commands.bench.train_torch import TorchLoop

    return ours, Ours(plan, corpus, "cpu"), TorchLoop(plan, ours)


def in_turns(loops: Sequence[Loop], passes: Iterator[Pass], num_steps: int) -> list[list[Step]]:
    """The steps of each loop on these batches, which all of them take. Raises CommandError where the first losses
    differ.
    """
    made: list[list[Step]] = [[] for _ in loops]
    with progress() as bar:
        task = bar.add_task("training steps", total=num_steps)
        for number, chosen in enumerate(islice(passes, num_steps)):
            for loop, steps in zip(loops, made, strict=True):
                steps.append(loop.step(chosen))
                if number == 0:
                    check_equal(made[0][0], steps[0], loop.tolerance)
            bar.advance(task)
    return made


def check_equal(ours: Step, theirs: Step, tolerance: float) -> None:
    """Raises CommandError where the losses of the same batch by the same weights differ."""
    if not abs(ours.loss - theirs.loss) <= tolerance:  # also when one is no number
        raise CommandError(
            f"the first batch has a loss of {ours.loss:.4f} here and of {theirs.loss:.4f} in PyTorch, expected the "
            f"same within {tolerance:g}: the loops do not compute the same, so their speeds cannot be compared",
            code="loops_differ",
        )


def speed(library: str, steps: Sequence[Step]) -> Speed:
    """The speed of all steps but the first one, which warms up."""
    measured = steps[1:]
    speeds = [step.num_tokens / step.spent_s for step in measured]
    return Speed(
        library=library,
        tokens_per_s=round(median(speeds), 1),
        slowest_tokens_per_s=round(min(speeds), 1),
        fastest_tokens_per_s=round(max(speeds), 1),
        step_ms=round(1000 * median(step.spent_s for step in measured), 1),
        first_loss=steps[0].loss,
        steps_tokens_per_s=tuple(round(each, 1) for each in speeds),
    )
