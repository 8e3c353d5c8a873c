"""The one thread that owns mlx: it loads the models and runs every pass; only Python values leave it."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeAlias, TypeVar, TypeVarTuple

import msgspec

from worker.core.rows import Lane, Output, Row, Vocabulary
from worker.engine import end_thread
from worker.engine.loading import load, load_vocabulary
from worker.engine.runner import Counters, Runner
from worker.engine.speculative.draft_model import DraftModel
from worker.engine.speculative.runner import PassRunner, SpeculativeRunner
from worker.engine.text.card import Card

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")
_LastCall: TypeAlias = Callable[[], None]


class EngineDead(Exception):
    """The engine's thread has died: nothing that was asked of it will come back."""


class Report(msgspec.Struct, frozen=True):
    """What the engine has done and holds, after a pass."""

    counters: Counters
    kv_bytes: int


class Engine:
    """A model on its thread. `vocabulary` may be used from any thread: it needs no mlx."""

    def __init__(
        self, thread: "EngineThread", runner: PassRunner, vocabulary: Vocabulary, description: str, card: Card
    ) -> None:
        self._thread = thread
        self._runner = runner
        self.has_drafter = isinstance(runner, SpeculativeRunner)
        self.vocabulary = vocabulary
        self.description = description
        self.card = card

    @property
    def is_alive(self) -> bool:
        """Whether its thread can still run passes."""
        return self._thread.is_alive

    @classmethod
    async def start(
        cls, model: str, draft_model: str = "", max_kv_bytes: int | None = None, *, kv_bits: int = 0
    ) -> "Engine":
        """Load the models; keep keys and values of `model` in `kv_bits`, within `max_kv_bytes`.

        Raises what `load` raises, UnsupportedModel for a draft model with another tokenizer.
        """
        thread = EngineThread()
        try:
            return await thread.call(lambda: cls._load(thread, model, draft_model, max_kv_bytes, kv_bits=kv_bits))
        except BaseException:
            thread.leave(end_thread)
            raise

    @classmethod
    def _load(
        cls, thread: "EngineThread", name: str, draft_model: str, max_kv_bytes: int | None, *, kv_bits: int
    ) -> "Engine":
        model, tokenizer = load(name)
        vocabulary = load_vocabulary(name, tokenizer)
        runner = Runner(model, vocabulary, max_kv_bytes, kv_bits=kv_bits)
        drafted = SpeculativeRunner(runner, DraftModel.load(draft_model, vocabulary)) if draft_model else None
        return cls(thread, drafted or runner, vocabulary, repr(model), vocabulary.card)

    def check(self) -> None:
        """Raise EngineDead where the thread has died."""
        if not self.is_alive:
            raise EngineDead("the engine's thread has died; another worker goes on with the sessions: start one")

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane]) -> "asyncio.Future[tuple[Sequence[Output], Report]]":
        """Begin a pass, the lanes in `dropped` freed first, and return the future of what each row has sampled.

        Raises EngineDead.
        """
        self.check()
        return self._thread.call(self._run, rows, tuple(dropped))

    def _run(self, rows: Sequence[Row], dropped: tuple[Lane, ...]) -> tuple[Sequence[Output], Report]:
        sampled = self._runner.run(rows, dropped)
        return sampled, Report(msgspec.structs.replace(self._runner.counters), self._runner.kv_bytes())

    def stop(self) -> None:
        """Wait for the pass that runs, free the model and end the thread."""
        self._thread.end(self._release)

    def _release(self) -> None:
        del self._runner
        end_thread()


class _Call(NamedTuple):
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    loop: asyncio.AbstractEventLoop
    result: "asyncio.Future[Any]"


class EngineThread:
    """A thread that runs calls one after the other, and hands their results to the event loops that asked.

    It runs until `end`, at the latest until the process exits or nobody refers to it any more. An executor does the
    same with two futures, locks and four callbacks for each call; a pass is short.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | _LastCall] = SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._calls,), name="engine", daemon=True)
        self._thread.start()
        # A thread that is cut off in the middle of a pass takes the process down with it.
        self._finish = weakref.finalize(self, _finish, self._calls, self._thread)

    @property
    def is_alive(self) -> bool:
        """Whether it can still be called."""
        return self._thread.is_alive()

    def call(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> "asyncio.Future[_Result]":
        """Call the function on the thread; return the future of its result. Raises RuntimeError after `end`."""
        if not self._finish.alive:
            raise RuntimeError("the engine's thread has been ended")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_Result] = loop.create_future()
        self._calls.put(_Call(function, arguments, loop, result))
        return result

    def end(self, last: _LastCall | None = None) -> None:
        """Wait until the calls made so far have run, and `last` behind them; then end the thread."""
        self.leave(last)
        self._finish()

    def leave(self, last: _LastCall | None = None) -> None:
        """Let the thread end behind the calls made so far, and `last`, without waiting for it."""
        self._calls.put(last or _nothing)


def _work(calls: "SimpleQueue[_Call | _LastCall]") -> None:
    while isinstance(call := calls.get(), _Call):
        deliver = _run_call(call)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            call.loop.call_soon_threadsafe(deliver)
        del call, deliver  # what a pass gave is not kept until the next one
    call()


def _run_call(call: _Call) -> Callable[[], None]:
    # Runs the call and returns what hands its outcome to the future, to be called on the loop.
    try:
        return partial(_set_result, call.result, call.function(*call.arguments))
    except StopIteration as error:  # no future takes it
        failure = RuntimeError("the call ran out of a generator")
        failure.__cause__ = error
        return partial(_set_exception, call.result, failure)
    except BaseException as error:  # whoever waits for it is to hear of it
        return partial(_set_exception, call.result, error)


def _set_result(future: "asyncio.Future[Any]", value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _set_exception(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _finish(calls: "SimpleQueue[_Call | _LastCall]", thread: threading.Thread) -> None:
    calls.put(_nothing)
    if thread is not threading.current_thread():
        thread.join()


def _nothing() -> None:
    return
