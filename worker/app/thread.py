"""The thread that an engine lives on: calls go in, one after the other, and their results come back on the event loop
that asked. An executor does the same with two futures, locks and four callbacks for each call; a tick is short.
"""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeAlias, TypeVar, TypeVarTuple

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")
_Last: TypeAlias = Callable[[], None]


class _Call(NamedTuple):
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    loop: asyncio.AbstractEventLoop
    result: "asyncio.Future[Any]"


class EngineThread:
    """Runs from the beginning until `end`, at the latest until the process exits or nobody has it any more."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | _Last] = SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._calls,), name="engine", daemon=True)
        self._thread.start()
        # A thread that is cut off in the middle of a pass takes the process down with it.
        self._finish = weakref.finalize(self, _finish, self._calls, self._thread)

    @property
    def is_alive(self) -> bool:
        """Whether it can still be called."""
        return self._thread.is_alive()

    def call(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> "asyncio.Future[_Result]":
        """What the function gives or raises on the thread, on the running loop. Raises RuntimeError after `end`."""
        if not self._finish.alive:
            raise RuntimeError("the engine's thread has been ended")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_Result] = loop.create_future()
        self._calls.put(_Call(function, arguments, loop, result))
        return result

    def end(self, last: _Last | None = None) -> None:
        """Waits until the calls that were made have run, and `last` behind them; then it has ended."""
        self.leave(last)
        self._finish()

    def leave(self, last: _Last | None = None) -> None:
        """It ends so by itself; nobody waits for it but the process's exit."""
        self._calls.put(last or _nothing)


def _work(calls: "SimpleQueue[_Call | _Last]") -> None:
    while isinstance(call := calls.get(), _Call):
        update = _settling(call)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            call.loop.call_soon_threadsafe(update)
        del call, update  # what a pass gave is not kept until the next one
    call()


def _settling(call: _Call) -> Callable[[], None]:
    try:
        return partial(_give, call.result, call.function(*call.arguments))
    except StopIteration as error:  # no future takes it
        failure = RuntimeError("the call ran out of a generator")
        failure.__cause__ = error
        return partial(_raise, call.result, failure)
    except BaseException as error:  # whoever waits for it is to hear of it
        return partial(_raise, call.result, error)


def _give(result: "asyncio.Future[Any]", value: Any) -> None:
    if not result.done():
        result.set_result(value)


def _raise(result: "asyncio.Future[Any]", error: BaseException) -> None:
    if not result.done():
        result.set_exception(error)


def _finish(calls: "SimpleQueue[_Call | _Last]", thread: threading.Thread) -> None:
    calls.put(_nothing)
    if thread is not threading.current_thread():
        thread.join()


def _nothing() -> None:
    return
