"""The engine behind the library's generators: one runner for each model, a lane for each generation."""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import count
from typing import Protocol
from weakref import WeakKeyDictionary

from worker.core.rows import Lane, Row, Sampled
from worker.engine.errors import EngineError
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.text.tokenizer import Vocabulary

_ATTRIBUTE = "_library_runners"
lane_numbers: Iterator[int] = count()
"""Every generation takes one, so that generators which run by turns never share a lane."""


class Engine(Protocol):
    """What runs the passes and holds the lanes: `worker.engine.runner.Runner`."""

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Sampled]:
        """What was sampled for each row; the dropped lanes are free."""


def runner_of(model: StreamingModel, vocabulary: Vocabulary, position_offset: int | None = None) -> Runner:
    """The runner of a model, kept with it; with another φ than the model's own, a runner over the same weights.

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


def run_row(runner: Runner, row: Row) -> Sampled:
    """What the engine sampled for one row. Raises EngineError where it failed."""
    sampled = runner.run([row])[0]
    if sampled.fault is not None:
        raise EngineError(f"the engine failed on this generation: {sampled.fault}")
    return sampled
