"""How far a run has come."""

import msgspec

from worker.training.batches import Place


class Progress(msgspec.Struct, frozen=True):
    """How far a run has come."""

    step: int = 0  # steps done
    place: Place = Place()
    num_tokens: int = 0  # trained on, padding left out
    num_averaged: int = 0  # weights in the mean
    train_s: float = 0.0
    valid_loss: dict[str, float] = {}  # by the name of k, when last measured
