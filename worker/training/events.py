"""What a run tells while it goes on; each is also a line of JSON, with its kind under `event`."""

from typing import TypeAlias

import msgspec


class Loaded(msgspec.Struct, frozen=True, tag_field="event", tag="data"):
    """A file has been read; `left_out` counts its unusable rows by reason."""

    file: str
    language: str
    weight: float
    used: int
    left_out: dict[str, int]


class Stepped(msgspec.Struct, frozen=True, tag_field="event", tag="step"):
    """The optimizer has made a step; the loss is the mean over its labels in nats, smoothing included."""

    step: int
    steps: int
    loss: float
    wait_k: tuple[int | None, ...]  # of each pass
    learning_rate: float
    gradient_norm: float
    num_tokens: int  # source and target, padding left out
    tokens_per_s: float
    left_s: float


class Validated(msgspec.Struct, frozen=True, tag_field="event", tag="valid"):
    """The loss on the validation files, in nats a token without smoothing, by the name of k."""

    step: int
    loss: dict[str, float]
    averaged: bool = False


class Saved(msgspec.Struct, frozen=True, tag_field="event", tag="saved"):
    """A checkpoint or the model is safe on disk."""

    step: int
    path: str


class Note(msgspec.Struct, frozen=True, tag_field="event", tag="note"):
    """Something that its reader should know."""

    text: str


Event: TypeAlias = Loaded | Stepped | Validated | Saved | Note
