"""The models and runners of the library, on the one thread that all of a process's threads and event loops share."""

import os
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from itertools import count
from weakref import WeakKeyDictionary

import mlx.core as mx
from mlx_lm.tokenizer_utils import TokenizerWrapper

from worker.core.rows import Lane, Output, Row
from worker.engine import loading
from worker.engine.adapters.compatibility import Compatibility
from worker.engine.model import StreamingModel
from worker.engine.runner import Counters, Runner
from worker.engine.speculative.runner import Drafter, PassRunner, SpeculativeRunner
from worker.engine.text.tokenizer import Vocabulary
from worker.engine.thread import shared_thread

_ATTRIBUTE = "_library_runners"
lane_numbers: Iterator[int] = count()
"""The numbers of the library's sessions, so that generators that take turns on one runner never share a lane."""


def load(
    path_or_repo: str | os.PathLike[str] = loading.DEFAULT_MODEL,
    *,
    position_offset: int | None = None,
    dtype: mx.Dtype | None = None,
) -> tuple[StreamingModel, TokenizerWrapper]:
    """Load a model and its tokenizer for any number of threads and event loops, as `worker.engine.loading.load` does.

    Raises ModelNotFound, UnsupportedModel.
    """
    name = os.fspath(path_or_repo)
    loading.model_path(name)  # while it downloads, other models are in use
    return shared_thread().run(partial(loading.load, name, position_offset=position_offset, dtype=dtype))


class SharedRunner:
    """A model's runner, with a drafter or without: any thread may run passes, which the shared thread makes in turn."""

    def __init__(self, runner: Runner, drafter: Drafter | None = None) -> None:
        self._runner = runner
        self.passes: PassRunner = runner if drafter is None else SpeculativeRunner(runner, drafter)
        """The runner itself, for calls that are on the shared thread already."""

    def with_drafter(self, drafter: Drafter) -> "SharedRunner":
        """Return the same runner with the drafts of a drafter."""
        return SharedRunner(self._runner, drafter)

    @property
    def compatibility(self) -> Compatibility:
        """What the model's layers can do."""
        return self._runner.compatibility

    @property
    def counters(self) -> Counters:
        """The totals so far."""
        return self._runner.counters

    @property
    def num_lanes(self) -> int:
        """Lanes in use."""
        return shared_thread().run(lambda: self._runner.num_lanes)

    def kv_bytes(self) -> int:
        """Return the bytes of all keys and values held."""
        return shared_thread().run(self.passes.kv_bytes)

    def check_invariants(self) -> None:
        """Raise AssertionError as `Runner.check_invariants` does."""
        shared_thread().run(self._runner.check_invariants)

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """Free the dropped lanes, then return what was sampled for each row; without rows, do not wait."""
        thread, gone = shared_thread(), tuple(dropped)
        if rows:
            return thread.run(self.passes.run, rows, gone)
        # The garbage collector closes generators on any thread, even in the middle of a pass.
        thread.post(self.passes.run, (), gone)
        return ()


def runner_of(model: StreamingModel, vocabulary: Vocabulary, position_offset: int | None = None) -> SharedRunner:
    """Return the runner kept with a model; for another φ than the model's, return a new runner over the same weights.

    Raises what `new_runner` raises.
    """
    _check(model)
    if position_offset is not None and position_offset != model.position_offset:
        moved = copy(model)
        moved.position_offset = position_offset
        return new_runner(moved, vocabulary)
    model.evaluate()
    return shared_thread().run(_kept_runner, model, vocabulary)


def new_runner(model: StreamingModel, vocabulary: Vocabulary) -> SharedRunner:
    """Return a runner with lanes of its own.

    Raises TypeError for a model that `load` has not prepared, UnsupportedModel for one that cannot be driven.
    """
    _check(model)
    model.evaluate()  # weights that this thread has set
    return SharedRunner(shared_thread().run(Runner, model, vocabulary))


def _check(model: StreamingModel) -> None:
    if not isinstance(model, StreamingModel):
        raise TypeError(
            f"expected a StreamingModel as load() gives it, or a Model, got {type(model).__name__}; mlx-lm's own "
            "models become one with StreamingModel(model)"
        )


def _kept_runner(model: StreamingModel, vocabulary: Vocabulary) -> SharedRunner:
    runners: WeakKeyDictionary[Vocabulary, SharedRunner] = vars(model).setdefault(_ATTRIBUTE, WeakKeyDictionary())
    if vocabulary not in runners:
        runners[vocabulary] = SharedRunner(Runner(model, vocabulary))
    return runners[vocabulary]
