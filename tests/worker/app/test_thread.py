"""The engine's thread: what it is asked, in order, and back on the loop that asked."""

import asyncio
import threading

import pytest

from worker.app.thread import EngineThread


async def test_calls_run_in_order_on_one_thread() -> None:
    """Law: a call runs after those before it, on a thread that is not the caller's."""
    thread = EngineThread()
    seen: list[tuple[int, int]] = []
    calls = [thread.call(lambda number: seen.append((number, threading.get_ident())), number) for number in range(100)]
    await asyncio.gather(*calls)
    assert [number for number, _ in seen] == list(range(100))
    assert len({where for _, where in seen} | {threading.get_ident()}) == 2
    thread.end()


async def test_a_call_gives_or_raises_what_its_function_does() -> None:
    """A failure, even one that would end a thread, is the caller's; the next call runs."""
    thread = EngineThread()
    with pytest.raises(SystemExit):
        await thread.call(exit)
    with pytest.raises(ZeroDivisionError):
        await thread.call(divmod, 1, 0)
    assert await thread.call(divmod, 7, 2) == (3, 1)
    thread.end()


async def test_a_caller_that_has_left_is_not_missed() -> None:
    """Its result is dropped, whether it failed or not."""
    thread, may_go = EngineThread(), threading.Event()
    waits = thread.call(may_go.wait)
    left = [thread.call(divmod, 7, number) for number in (0, 2)]
    for call in left:
        call.cancel()
    may_go.set()
    assert await waits
    assert await thread.call(divmod, 7, 2) == (3, 1)
    thread.end()


def test_it_outlives_the_loop_that_called() -> None:
    """A call whose loop has been closed meanwhile gives nothing to anybody; another loop's calls are answered."""
    thread, may_go = EngineThread(), threading.Event()

    async def leave() -> None:
        thread.call(may_go.wait)

    async def ask() -> tuple[int, int]:
        return await thread.call(divmod, 7, 2)

    asyncio.run(leave())
    may_go.set()
    assert asyncio.run(ask()) == (3, 1)
    thread.end()


async def test_the_end_comes_after_all_calls() -> None:
    """What was asked before is done; `last` runs on the thread; then it is not alive."""
    thread = EngineThread()
    seen: list[str] = []
    call = thread.call(seen.append, "call")
    thread.end(lambda: seen.append(threading.current_thread().name))
    await call
    assert seen == ["call", "engine"]
    assert not thread.is_alive
