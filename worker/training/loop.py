"""The loop: steps, validations, checkpoints, and the mean of the last weights as the result.

What a step does depends on recipe, step number and weights alone, so a run that resumes goes on as if never stopped.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import mlx.core as mx
import mlx.optimizers as optim
import msgspec
import numpy as np
from mlx.utils import tree_flatten, tree_map
from msgspec.structs import replace

from worker.engine.model import StreamingModel
from worker.training import gradients, lora
from worker.training.batches import MULTIPLE, Place, batches_from, epoch_batches
from worker.training.checkpoint import Progress, State, load_checkpoint, save_checkpoint, set_weights, weights_of
from worker.training.data import Corpus
from worker.training.errors import LossError
from worker.training.events import Event, Saved, Stepped, Validated
from worker.training.objective import Batch, Ints, make_batch
from worker.training.recipe import Recipe, wait_name

Batches: TypeAlias = Iterator[tuple[Ints, Place]]
_VALID_EPOCH = (0, 0)  # seed and epoch of the only order in which validation batches come


class Trainer:
    """One run: `run` until it is done or told to stop; `state` and `progress` are what a checkpoint holds."""

    def __init__(
        self, recipe: Recipe, model: StreamingModel, train: Corpus, valid: Corpus, *, directory: Path,
        report: Callable[[Event], None],
    ) -> None:  # fmt: skip
        self.recipe = recipe
        self.progress = Progress()
        self._model, self._train, self._valid = model, train, valid
        self._directory, self._report = directory, report
        self._objective = gradients.objective(recipe, model)
        # Without bias correction the first steps would be far too long for a short warm-up.
        optimizer = optim.AdamW(
            learning_rate=0.0, betas=[0.9, 0.98], weight_decay=recipe.weight_decay, bias_correction=True
        )
        optimizer.init(model.inner.trainable_parameters())
        self.state = State(model.inner, optimizer)
        self._spent_s: deque[float] = deque(maxlen=100)  # by the last steps

    def resume(self) -> None:
        """The run stands where the directory's checkpoint was written. Raises CheckpointError."""
        self.progress = load_checkpoint(self._directory, self.state)

    def run(self, stop: Callable[[], bool]) -> bool:
        """Tell whether all steps are done; false if `stop`, asked before each step, said so. A checkpoint is saved in
        both cases.

        Raises LossError where the loss is no number any more: the last checkpoint stays.
        """
        recipe = self.recipe
        batches = self.batches()
        while self.progress.step < recipe.steps and not stop():
            self.step(batches)
            if self.progress.step % recipe.valid_every == 0 and self.progress.step < recipe.steps:
                self.validate()
                self.save()
        self.save()
        return self.progress.step >= recipe.steps

    def batches(self) -> Batches:
        """The batches that come next, without end."""
        return batches_from(self._train, self.recipe.tokens_per_batch, self.recipe.seed, self.progress.place)

    def save(self) -> None:
        """The directory's checkpoint is the present state."""
        path = save_checkpoint(self._directory, self.state, self.recipe, self.progress)
        self._report(Saved(self.progress.step, str(path)))

    def finish(self) -> dict[str, mx.array]:
        """All weights of the result, validated: the mean of the last ones where there is one, adapters fused.

        The run cannot go on behind it but by `resume` of another trainer.
        """
        if self.state.mean is not None:
            set_weights(self.state.model, self.state.mean)
        self.validate(averaged=self.state.mean is not None)
        lora.fuse(self.state.model)
        return dict(tree_flatten(self.state.model.parameters()))

    def validate(self, *, averaged: bool = False) -> None:
        """`progress.valid_loss` is measured anew, for each k that is trained."""
        self.state.model.eval()
        order = epoch_batches(self._valid, self.recipe.tokens_per_batch, *_VALID_EPOCH)
        losses: dict[str, float] = {}
        for wait_k in dict.fromkeys(self.recipe.wait_k):
            total, num_labels = 0.0, 0
            for indices in order:
                batch = self._batch(self._valid, indices, wait_k)
                total += number(self._objective.loss_sum(batch))
                num_labels += batch.num_labels
            losses[wait_name(wait_k)] = total / num_labels
        self.progress = replace(self.progress, valid_loss=losses)
        self._report(Validated(self.progress.step, losses, averaged))

    def _batch(self, corpus: Corpus, indices: Ints, wait_k: int | None) -> Batch:
        pairs = [corpus[int(index)] for index in indices]
        return make_batch(pairs, wait_k, self._model.position_offset, MULTIPLE)

    def step(self, batches: Batches) -> None:
        """The optimizer has made one step on the next of these batches, and it is reported. Raises LossError."""
        start_s = perf_counter()
        step = self.progress.step
        done = self._passes(batches)
        norm = self._update(done)
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
                learning_rate=self.recipe.rate(step),
                gradient_norm=norm,
                num_tokens=done.num_tokens,
                tokens_per_s=round(done.num_tokens / spent_s, 1),
                left_s=round(mean_s * (self.recipe.steps - step - 1), 1),
            )
        )

    def _passes(self, batches: Batches) -> "_Passes":
        seed = (self.recipe.seed, self.progress.step)
        random = np.random.default_rng(seed)
        # Dropout draws from a state of its own: set anew in each step, so that a run that resumes drops the same.
        self._objective.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        self.state.model.train()
        done = _Passes(place=self.progress.place)
        for _ in range(self.recipe.accumulate):
            indices, place = next(batches)
            wait_k = self.recipe.wait_k[int(random.integers(len(self.recipe.wait_k)))]
            batch = self._batch(self._train, indices, wait_k)
            loss, fresh = self._objective.loss_and_gradients(batch, self.recipe.label_smoothing)
            total = fresh if done.gradients is None else tree_map(mx.add, done.gradients, fresh)
            mx.eval(loss, total)
            done = _Passes(
                place=place,
                gradients=total,
                loss=done.loss + number(loss),
                num_labels=done.num_labels + batch.num_labels,
                num_tokens=done.num_tokens + batch.num_tokens,
                waits=(*done.waits, wait_k),
            )
        return done

    def _update(self, done: "_Passes") -> float:
        mean = tree_map(lambda gradient: gradient / done.num_labels, done.gradients)
        clipped, norm_array = optim.clip_grad_norm(mean, self.recipe.max_norm)
        norm = number(norm_array)
        if not (math.isfinite(done.loss) and math.isfinite(norm)):
            raise LossError(
                f"step {self.progress.step + 1}: the loss is {done.loss / done.num_labels:g} and the norm of the "
                f"gradients {norm:g}, expected finite numbers; a checkpoint in {self._directory} is of before: lower "
                "--lr or --clip, and train anew"
            )
        self.state.optimizer.learning_rate = self.recipe.rate(self.progress.step)
        self.state.optimizer.update(self.state.model, clipped)
        mx.eval(self.state.model.parameters(), self.state.optimizer.state)
        return norm

    def _average(self) -> None:
        if self.progress.step < self.recipe.average_from:
            return
        count = self.progress.num_averaged + 1
        fresh = weights_of(self.state.model)
        old = self.state.mean or fresh
        self.state.mean = {name: old[name] + (array - old[name]) / count for name, array in fresh.items()}
        mx.eval(self.state.mean)
        self.progress = replace(self.progress, num_averaged=count)


class _Passes(msgspec.Struct, frozen=True):
    """The sums over the passes of one step."""

    place: Place
    gradients: Any = None
    loss: float = 0.0
    num_labels: int = 0
    num_tokens: int = 0
    waits: tuple[int | None, ...] = ()


def number(array: mx.array) -> float:
    """The value of an array with one real number."""
    return float(array.item())  # type: ignore[arg-type]  # complex for mlx's types
