"""The thread that an engine lives on: calls go in, one after the other, and their results come back on the event loop
that asked. An executor does the same with two futures, locks and four callbacks for each call; a tick is short.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


class _Call(NamedTuple):
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    loop: asyncio.AbstractEventLoop
    result: "asyncio.Future[Any]"


class EngineThread:
    """Runs from the beginning until `end`. A process that exits does not wait for it."""

    def __init__(self) -> None:
        self._last: Callable[[], None] | None = None
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it can still be called."""
        return self._thread.is_alive()

    def call(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> "asyncio.Future[_Result]":
        """What the function gives or raises on the thread, on the running loop."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_Result] = loop.create_future()
        self._calls.put(_Call(function, arguments, loop, result))
        return result

    def end(self, last: Callable[[], None] | None = None) -> None:
        """It has ended, with the calls that were made, and with `last` after them."""
        self._last = last
        self._calls.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            settle = _settling(call)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                call.loop.call_soon_threadsafe(settle)
            del call, settle  # what a pass gave is not kept until the next one
        if self._last is not None:
            self._last()


def _settling(call: _Call) -> Callable[[], None]:
    result = call.result
    try:
        value = call.function(*call.arguments)
    except BaseException as error:  # whoever waits for it is to hear of it
        failure = error
        return lambda: None if result.done() else result.set_exception(failure)
    return lambda: None if result.done() else result.set_result(value)
