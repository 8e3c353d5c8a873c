"""The runners of the library's generators: one for each model, and a number for each generation."""

from collections.abc import Iterator
from copy import copy
from itertools import count
from weakref import WeakKeyDictionary

from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.text.tokenizer import Vocabulary

_ATTRIBUTE = "_library_runners"
lane_numbers: Iterator[int] = count()
"""The numbers of the library's sessions, so that generators that take turns on one runner never share a lane."""


def runner_of(model: StreamingModel, vocabulary: Vocabulary, position_offset: int | None = None) -> Runner:
    """Return the runner kept with a model; for another φ than the model's, return a new runner over the same weights.

    Raises TypeError for a model that `load` has not prepared.
    """
    if not isinstance(model, StreamingModel):
        raise TypeError(
            f"expected a StreamingModel as load() gives it, or a Model, got {type(model).__name__}; mlx-lm's own "
            "models become one with StreamingModel(model)"
        )
    if position_offset is not None and position_offset != model.position_offset:
        moved = copy(model)
        moved.position_offset = position_offset
        return Runner(moved, vocabulary)
    runners: WeakKeyDictionary[Vocabulary, Runner] = vars(model).setdefault(_ATTRIBUTE, WeakKeyDictionary())
    if vocabulary not in runners:
        runners[vocabulary] = Runner(model, vocabulary)
    return runners[vocabulary]
