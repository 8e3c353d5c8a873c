"""The loop: steps, validations, checkpoints, and the mean of the last weights as the result.

What a step does depends on recipe, step number and weights alone, so a run that resumes goes on as if never stopped.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, SupportsFloat

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from worker.training.arrangement import ahead, arrange
from worker.training.backend import Backend
from worker.training.batches import Place, batches_from
from worker.training.checkpoint import load_checkpoint, save_checkpoint
from worker.training.errors import LossError
from worker.training.events import Event, Note, Saved, Stepped, Validated
from worker.training.packing import ROW_TOKENS
from worker.training.pairs import Batch, Corpus
from worker.training.planner import Planner
from worker.training.progress import Progress
from worker.training.recipe import Recipe, replanned, wait_name

_VALID_EPOCH = (0, 0)  # seed and epoch of the only order in which validation batches come

_EPOCHS = 2**32  # more than a run has


class Pass(msgspec.Struct, frozen=True):
    """A batch with its k, and the place behind it."""

    batch: Batch
    wait_k: int | None
    place: Place


class Trainer:
    """One run: `run` until it is done or told to stop; a checkpoint holds `progress` and the backend's arrays."""

    def __init__(
        self, recipe: Recipe, backend: Backend, train: Corpus, valid: Corpus, *, directory: Path,
        report: Callable[[Event], None],
    ) -> None:  # fmt: skip
        self.recipe = recipe
        self.progress = Progress()
        self._backend = backend
        self._train, self._valid = (arrange(corpus, recipe, backend.position_offset) for corpus in (train, valid))
        self._directory, self._report = directory, report
        self._spent_s: deque[float] = deque(maxlen=100)  # by the last steps
        self._saved_s = perf_counter()

    def resume(self) -> None:
        """Go on where the directory's checkpoint was written. Raises CheckpointError."""
        arrays, self.progress = load_checkpoint(self._directory, self._backend.shapes())
        self._backend.set_arrays(arrays)

    def run(self, stop: Callable[[], bool], *, plan_s: float | None = None) -> bool:
        """Tell whether all steps are done; false if `stop`, asked before each step, said so. A checkpoint is saved in
        both cases.

        With `plan_s`, the number of steps follows from the time that steps take: the run ends after so many seconds.
        Raises LossError where the loss is no number any more: the last checkpoint stays.
        """
        if self._train.num_left_out:
            self._report(Note(f"{self._train.num_left_out:,} pairs are longer than {ROW_TOKENS} tokens: left out"))
        planner = None if plan_s is None else Planner(plan_s, perf_counter())
        with closing(ahead(self.passes())) as passes:
            while self.progress.step < self.recipe.steps and not stop():
                self.step(passes)
                if planner is not None:
                    self._plan(planner)
                if self.progress.step % self.recipe.valid_every == 0 and self.progress.step < self.recipe.steps:
                    self.validate()
                    self.save()
                elif perf_counter() - self._saved_s > self.recipe.save_every_s:
                    self.save()
        self.save()
        return self.progress.step >= self.recipe.steps

    def _plan(self, planner: Planner) -> None:
        steps_left = planner.steps_left(self.progress.step, perf_counter())
        if steps_left is not None:
            self.recipe = replanned(self.recipe, self.progress.step, steps_left)

    def passes(self) -> Iterator[Pass]:
        """The passes that come next, without end; each step of the optimizer takes `accumulate` of them."""
        recipe, step = self.recipe, self.progress.step
        batches = batches_from(lambda epoch: self._train.epoch(recipe.seed, epoch), self.progress.place)
        while True:
            random = np.random.default_rng((recipe.seed, step))
            for indices, place in islice(batches, recipe.accumulate):
                wait_k = recipe.wait_k[int(random.integers(len(recipe.wait_k)))]
                early_seed = recipe.seed * _EPOCHS + place.epoch
                yield Pass(self._train.batch(indices, wait_k, early_seed), wait_k, place)
            step += 1

    def save(self) -> None:
        """Write the present state as the directory's checkpoint."""
        path = save_checkpoint(self._directory, self._backend.arrays(), self.recipe, self.progress)
        self._saved_s = perf_counter()
        self._report(Saved(self.progress.step, str(path)))

    def finish(self) -> Mapping[str, NDArray[Any]]:
        """All weights of the result, validated: the mean of the last ones where there is one, adapters fused.

        The run cannot go on behind it but by `resume` of another trainer.
        """
        self.validate(averaged=self._backend.use_mean())
        return self._backend.result()

    def validate(self, *, averaged: bool = False) -> None:
        """Measure `progress.valid_loss` anew, for each k that is trained."""
        order = self._valid.epoch(*_VALID_EPOCH)
        losses: dict[str, float] = {}
        for wait_k in dict.fromkeys(self.recipe.wait_k):
            total, num_labels = 0.0, 0
            for indices in order:
                batch = self._valid.batch(indices, wait_k)
                total += self._backend.loss_sum(batch)
                num_labels += batch.num_labels
            losses[wait_name(wait_k)] = total / num_labels
        self.progress = replace(self.progress, valid_loss=losses)
        self._report(Validated(self.progress.step, losses, averaged))

    def step(self, passes: Iterator[Pass]) -> None:
        """Make one step of the optimizer by the next of these passes, and report it. Raises LossError."""
        start_s = perf_counter()
        step = self.progress.step
        done = self._gradients(passes)
        rate = self.recipe.rate(step)
        norm = self._backend.update(rate, done.num_labels, self.recipe.max_norm)
        self._check(done, norm)
        spent_s = perf_counter() - start_s
        self.progress = replace(
            self.progress,
            step=step + 1,
            place=done.place,
            num_tokens=self.progress.num_tokens + done.num_tokens,
            train_s=self.progress.train_s + spent_s,
        )
        self._average()
        self._spent_s.append(spent_s)
        mean_s = sum(self._spent_s) / len(self._spent_s)
        self._report(
            Stepped(
                step=step + 1,
                steps=self.recipe.steps,
                loss=done.loss / done.num_labels,
                wait_k=done.waits,
                learning_rate=rate,
                gradient_norm=norm,
                num_tokens=done.num_tokens,
                tokens_per_s=round(done.num_tokens / spent_s, 1),
                left_s=round(mean_s * (self.recipe.steps - step - 1), 1),
            )
        )

    def _gradients(self, passes: Iterator[Pass]) -> "_Done":
        seed = np.random.SeedSequence((self.recipe.seed, self.progress.step))
        self._backend.seed(int(seed.generate_state(1)[0]))
        done = list(islice(passes, self.recipe.accumulate))
        losses = [self._backend.add_gradients(one.batch, self.recipe.label_smoothing) for one in done]
        return _Done(
            place=done[-1].place,
            losses=losses,
            num_labels=sum(one.batch.num_labels for one in done),
            num_tokens=sum(one.batch.num_tokens for one in done),
            waits=tuple(one.wait_k for one in done),
        )

    def _check(self, done: "_Done", norm: float) -> None:
        if not (math.isfinite(done.loss) and math.isfinite(norm)):
            raise LossError(
                f"step {self.progress.step + 1}: the loss is {done.loss / done.num_labels:g} and the norm of the "
                f"gradients {norm:g}, expected finite numbers; a checkpoint in {self._directory} is of before: lower "
                "--lr or --clip, and train anew"
            )

    def _average(self) -> None:
        if self.progress.step >= self.recipe.average_from:
            self.progress = replace(self.progress, num_averaged=self.progress.num_averaged + 1)
            self._backend.average(self.progress.num_averaged)


class _Done(msgspec.Struct, frozen=True):
    """What the passes of one step made."""

    place: Place
    losses: list[SupportsFloat]
    num_labels: int
    num_tokens: int
    waits: tuple[int | None, ...]

    @property
    def loss(self) -> float:
        """The sum of the losses, for which the device is awaited."""
        return sum(map(float, self.losses))
