"""What a training run is made of: enough to run it again, and kept in its checkpoint."""

import math
from typing import Literal

import msgspec

from worker.training.data import Cleaning, Split
from worker.training.files import DataFile, Keys

Gradients = Literal["mlx", "torch-bf16"]


class Shape(msgspec.Struct, frozen=True):
    """The size of a model that is trained from scratch, of the Qwen2 architecture."""

    hidden: int = 256
    layers: int = 6
    heads: int = 4
    mlp: int = 1024
    vocabulary: int = 8000
    max_positions: int = 512


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
    tokens_per_batch: int = 4096  # of one pass, padding included
    accumulate: int = 1  # passes for one step of the optimizer
    peak_rate: float = 2e-3
    warmup_steps: int = 200
    gradients: Gradients = "mlx"  # by whom, in fp32 or with products in bf16
    dropout: float = 0.0  # of the embedding's output, and of what attention and MLP add
    label_smoothing: float = 0.1
    weight_decay: float = 0.01
    max_norm: float = 1.0  # of the gradients
    average: float = 0.1  # the last part of the steps over whose weights the result is the mean
    valid_every: int = 500  # steps
    valid_pairs: int = 500  # of each file
    seed: int = 0

    @property
    def languages(self) -> tuple[str, ...]:
        """The target languages, in order of appearance."""
        return tuple(dict.fromkeys(file.language for file in self.train))

    def rate(self, step: int) -> float:
        """The learning rate of a step from 0: a linear rise to the peak, then half a cosine towards 0."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        part = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.peak_rate * (1 + math.cos(math.pi * min(1.0, part))) / 2

    @property
    def average_from(self) -> int:
        """The first step behind which the weights count for the mean; beyond the last one if none do."""
        return self.steps + 1 if self.average <= 0 else max(1, self.steps - round(self.steps * self.average) + 1)


def differences(old: Recipe, new: Recipe) -> list[str]:
    """The names of the fields that differ."""
    return [name for name in Recipe.__struct_fields__ if getattr(old, name) != getattr(new, name)]


def wait_name(wait_k: int | None) -> str:
    """How a k is shown.

    >>> wait_name(3), wait_name(None)
    ('3', 'full')
    """
    return "full" if wait_k is None else str(wait_k)
