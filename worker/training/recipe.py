"""What a training run is made of: enough to run it again, and kept in its checkpoint."""

import math
from typing import Literal

import msgspec
from msgspec.structs import replace

from worker.training.augmentation import Augmentation
from worker.training.data import Cleaning, Split
from worker.training.errors import TrainingError
from worker.training.files import DataFile, Keys

Device = Literal["mlx", "cuda", "cpu"]
Precision = Literal["bf16", "fp32"]


class Shape(msgspec.Struct, frozen=True):
    """The size of a model that is trained from scratch, of the Qwen2 architecture."""

    hidden: int = 256
    layers: int = 6
    heads: int = 4
    mlp: int = 1024
    vocabulary: int = 8000
    max_positions: int = 512
    kv_heads: int | None = None  # heads of keys and values, each shared by as many of the others; None: all


class Lora(msgspec.Struct, frozen=True):
    """Low-rank adapters beside the linear maps of a model that is there already; nothing else is trained."""

    rank: int
    layers: int | None = None  # the last so many; None: all
    scale: float = 20.0  # of what the adapters add
    dropout: float = 0.0  # of what they take in

    def __str__(self) -> str:
        layers = "all layers" if self.layers is None else f"the last {self.layers} layers"
        return f"LoRA of rank {self.rank} in {layers}, scale {self.scale:g}, dropout {self.dropout:g}"


class Recipe(msgspec.Struct, frozen=True):
    """All that the result depends on. `wait_k` None is the full sentence; one k is drawn for each batch."""

    train: tuple[DataFile, ...]
    valid: tuple[DataFile, ...]
    steps: int
    pack: str | None = None  # the directory of the pack that holds the data and the start, instead of the files
    start: str | None = None  # the model to go on from; None: from scratch
    draft_of: str | None = None  # from scratch, with the tokenizer and the prompt of this model
    lora: Lora | None = None  # None: all weights are trained
    shape: Shape = Shape()
    source_language: str = "en"
    position_offset: int | None = None  # φ; None: the start model's, 0 from scratch
    wait_k: tuple[int | None, ...] = (1, 2, 3, 5, 7, None)
    split: Split = "word"
    cleaning: Cleaning = Cleaning()
    keys: Keys = Keys()
    augmentation: Augmentation = Augmentation()
    pack_epochs: int = 1  # a pack has the rows that so many epochs read of a file with a weight below 1
    split_digits: bool = False  # each digit is a token of its own, whatever the start model's tokenizer did
    tokens_per_batch: int = 4096  # of one pass, padding included
    accumulate: int = 1  # passes for one step of the optimizer
    peak_rate: float = 2e-3
    warmup_steps: int = 200
    decay: float = 1.0  # the last part of the steps, in which the rate falls from its peak to 0
    fall_from: float | None = None  # the step at which it begins to, where a run was planned anew (`replanned`)
    device: Device = "mlx"  # mlx's own one, or one of PyTorch's
    precision: Precision = "bf16"  # of matrix products on a PyTorch device; mlx trains in fp32
    dropout: float = 0.0  # of the embedding's output, and of what attention and MLP add
    label_smoothing: float = 0.1
    weight_decay: float = 0.01
    max_norm: float = 1.0  # of the gradients
    average: float = 0.1  # the last part of the steps over whose weights the result is the mean
    valid_every: int = 500  # steps
    save_every_s: float = 600.0  # a checkpoint at the latest, behind the last one
    valid_pairs: int = 500  # of each file
    seed: int = 0

    @property
    def languages(self) -> tuple[str, ...]:
        """The target languages, in order of appearance."""
        return tuple(dict.fromkeys(file.language for file in self.train))

    def rate(self, step: int) -> float:
        """The learning rate of a step from 0: a linear rise to the peak, a stay there, half a cosine down to 0."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        return self.peak_rate * (1 + math.cos(math.pi * self.fallen(step))) / 2

    def fallen(self, step: int) -> float:
        """How much of the fall of the learning rate lies behind this step, from 0 to 1."""
        planned = max(self.warmup_steps, round(self.steps * (1 - self.decay)))
        first = planned if self.fall_from is None else self.fall_from
        return min(1.0, max(0.0, (step - first) / max(1, self.steps - first)))

    @property
    def average_from(self) -> int:
        """The first step behind which the weights count for the mean; beyond the last one if none do."""
        return self.steps + 1 if self.average <= 0 else max(1, self.steps - round(self.steps * self.average) + 1)


def check_dropout(share: float) -> None:
    """Raises TrainingError for a share that cannot be dropped."""
    if not 0 <= share < 1:
        raise TrainingError(f"--dropout is the share of values to drop, at least 0 and below 1, got {share:g}")


def replanned(recipe: Recipe, step: int, steps_left: int) -> Recipe:
    """The recipe with its end moved to `steps_left` steps behind `step`.

    The learning rate goes on from where it is: a fall that has begun is stretched or pressed into what is left, one
    that has not begins where `decay` of the new plan says, at the earliest now.
    """
    steps, fallen = step + max(1, steps_left), recipe.fallen(step)
    if 0 < fallen < 1:
        first = (step - fallen * steps) / (1 - fallen)
    else:
        first = max(step, recipe.warmup_steps, round(steps * (1 - recipe.decay)))
    return replace(recipe, steps=steps, fall_from=first)


def differences(old: Recipe, new: Recipe) -> list[str]:
    """The names of the fields that differ."""
    return [name for name in Recipe.__struct_fields__ if getattr(old, name) != getattr(new, name)]


def wait_name(wait_k: int | None) -> str:
    """How a k is shown.

    >>> wait_name(3), wait_name(None)
    ('3', 'full')
    """
    return "full" if wait_k is None else str(wait_k)
