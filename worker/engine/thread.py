"""A thread that owns mlx: models are loaded and passes run on it, one after the other; only Python values leave it.

The service has one for its engine. The library shares one among all models, threads and event loops of a process.
"""

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeAlias, TypeVar, TypeVarTuple

from worker.engine import end_thread

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")
_LastCall: TypeAlias = Callable[[], None]


class _Outcome(NamedTuple):
    """The value of a call, or the exception that it raised."""

    value: Any
    error: BaseException | None


class _Call(NamedTuple):
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    deliver: Callable[[_Outcome], None]


class EngineThread:
    """A thread that runs calls one after the other, and hands their results to the threads or event loops that asked.

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
        return self._finish.alive and self._thread.is_alive()

    def call(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> "asyncio.Future[_Result]":
        """Call the function on the thread; return the future of its result. Raises RuntimeError after `end`."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_Result] = loop.create_future()
        self._put(_Call(function, arguments, partial(_hand_over, loop, result)))
        return result

    def run(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
        """Call the function on the thread, wait, and return its result; on the thread itself, call it at once.

        Raises what the function raises, RuntimeError after `end`.
        """
        if self._thread is threading.current_thread():
            return function(*arguments)
        outcomes: SimpleQueue[_Outcome] = SimpleQueue()
        self._put(_Call(function, arguments, outcomes.put))
        value, error = outcomes.get()
        if error is not None:
            raise error
        result: _Result = value
        return result

    def post(self, function: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """Call the function on the thread behind the calls made so far, without waiting; drop its result.

        The garbage collector, which interrupts any thread, may call it; after `end` it does nothing.
        """
        self._calls.put(_Call(function, arguments, _drop))

    def _put(self, call: _Call) -> None:
        if not self._finish.alive:
            raise RuntimeError("the engine's thread has been ended")
        self._calls.put(call)

    def end(self, last: _LastCall | None = None) -> None:
        """Wait until the calls made so far have run, and `last` behind them; then end the thread."""
        self.leave(last)
        self._finish()

    def leave(self, last: _LastCall | None = None) -> None:
        """Let the thread end behind the calls made so far, and `last`, without waiting for it."""
        self._calls.put(last or _nothing)


_lock = threading.Lock()
_shared: list[EngineThread] = []  # at most one


def shared_thread() -> EngineThread:
    """Return the thread of the library's models, started by its first call. A forked process gets one of its own."""
    with _lock:
        if not _shared:
            _shared.append(EngineThread())
        return _shared[0]


def _forget_threads() -> None:
    # Of all threads, only the one that forked goes on in the new process.
    global _lock
    _lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=_forget_threads)


def _work(calls: "SimpleQueue[_Call | _LastCall]") -> None:
    try:
        while isinstance(call := calls.get(), _Call):
            outcome, deliver = _run_call(call), call.deliver
            del call
            deliver(outcome)
            del outcome, deliver  # what a pass gave is not kept until the next one
        call()
    finally:
        end_thread()


def _run_call(call: _Call) -> _Outcome:
    try:
        return _Outcome(call.function(*call.arguments), None)
    except StopIteration as error:  # no future takes it
        failure = RuntimeError("the call ran out of a generator")
        failure.__cause__ = error
        return _Outcome(None, failure)
    except BaseException as error:  # whoever waits for it is to hear of it
        return _Outcome(None, error)


def _hand_over(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", outcome: _Outcome) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(_settle, future, outcome)


def _settle(future: "asyncio.Future[Any]", outcome: _Outcome) -> None:
    if future.done():
        return
    if outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.value)


def _drop(_: _Outcome) -> None:
    return


def _finish(calls: "SimpleQueue[_Call | _LastCall]", thread: threading.Thread) -> None:
    calls.put(_nothing)
    if thread is not threading.current_thread():
        thread.join()


def _nothing() -> None:
    return
