"""The engine's thread: what it is asked, in order, and back on the loop that asked."""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref

import pytest

from worker.engine.thread import EngineThread


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
    """A failure, even one that would end a thread or that no future takes, is the caller's; the next call runs."""
    thread = EngineThread()
    with pytest.raises(SystemExit):
        await thread.call(sys.exit)
    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="generator"):
            await thread.call(next, iter(()))
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
    with pytest.raises(RuntimeError, match="ended"):
        thread.call(divmod, 7, 2)
    thread.end()


def test_nobody_has_it_any_more() -> None:
    """Then it ends by itself, as does one that was left."""
    thread = EngineThread()
    inner = thread._thread
    gone = weakref.ref(thread)
    del thread
    gc.collect()
    assert gone() is None
    assert not inner.is_alive()
    left = EngineThread()
    left.leave()
    left._thread.join(10)
    assert not left.is_alive


def test_an_exit_waits_for_the_call_that_runs() -> None:
    """A process that forgets to end it is not cut off in the middle of a pass."""
    forgetful = """
import asyncio, time
from worker.engine.thread import EngineThread

thread = EngineThread()

async def ask():
    thread.call(lambda: (time.sleep(0.1), print("through", flush=True)))

asyncio.run(ask())
"""
    ran = subprocess.run([sys.executable, "-c", forgetful], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "through\n"
