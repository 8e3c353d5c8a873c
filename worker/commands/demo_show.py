"""The demo's output: a live screen, plain lines, or one JSON document."""

import asyncio
import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live

from worker.app.config import Settings
from worker.commands import demo_screen
from worker.commands.demo_report import Place, document, figures, header, pair_line
from worker.commands.demo_stage import Performance, Plan, Stage, only_error, open_stage
from worker.commands.demo_view import View, summarize
from worker.commands.output import busy, print_json
from worker.io import logs

_FRAMES_PER_S = 12


async def show(plan: Plan, settings: Settings, *, as_json: bool) -> int:
    """Show the talk. Return 0, or 128 plus the number of the signal that ended it.

    Raises CommandError, and the errors of broker, worker, publisher and subscriber.
    """
    console = Console(highlight=False)
    is_live = console.is_terminal and not console.is_dumb_terminal and not as_json
    with _stoppable(console) as signals:
        try:
            await _run(plan, settings, as_json=as_json, console=console if is_live else None)
        except asyncio.CancelledError:
            if not signals:
                raise
            print("decalage demo: stopped", file=sys.stderr)
            return 128 + signals[0]
        except ExceptionGroup as failures:
            raise only_error(failures) from failures
    return 0


@contextlib.contextmanager
def _stoppable(console: Console) -> Iterator[list[int]]:
    """Cancel this task on SIGINT and SIGTERM, and note the signal; end the process at once on a second one."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    signals: list[int] = []

    def handle(number: int) -> None:
        signals.append(number)
        if len(signals) > 1 or task is None:
            console.show_cursor(True)
            console.set_alt_screen(False)
            os._exit(128 + number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, handle, number)
    try:
        yield signals
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _run(plan: Plan, settings: Settings, *, as_json: bool, console: Console | None) -> None:
    with _held_logs() if console else _warnings():
        async with contextlib.AsyncExitStack() as stack:
            with busy(f"Starting the broker and loading the model {settings.model} …"):
                stage = await stack.enter_async_context(open_stage(settings))
            stage.check(plan)
            place = stage.place(plan, is_embedded=not settings.redis)
            if console:
                await _show_live(console, stage, place, plan)
            elif as_json:
                await _show_json(stage, place, plan)
            else:
                await _show_plain(stage, place, plan)


async def _show_live(console: Console, stage: Stage, place: Place, plan: Plan) -> None:
    performance = Performance(stage.url, plan)
    live = Live(
        console=console,
        screen=True,
        refresh_per_second=_FRAMES_PER_S,
        redirect_stderr=False,
        get_renderable=lambda: demo_screen.Screen(place, performance.view),
    )
    try:
        with live:
            await performance.run()
    finally:  # also after Ctrl-C, so that the finished sentences stay on the terminal
        _print_all(console, place, performance.view)
    console.print(demo_screen.ending(summarize(performance.view, stage.num_forwards), plan.pace_words_per_s))


def _print_all(console: Console, place: Place, view: View) -> None:
    console.print(demo_screen.heading(place, view))
    for sentence in view.sentences:
        if sentence.done:
            console.print(demo_screen.finished_pair(sentence))


async def _show_plain(stage: Stage, place: Place, plan: Plan) -> None:
    num_printed = 0

    def print_news(view: View) -> None:
        nonlocal num_printed
        while num_printed < len(view.sentences) and view.sentences[num_printed].done:
            print(pair_line(view.sentences[num_printed]), flush=True)
            num_printed += 1

    performance = Performance(stage.url, plan, print_news)
    for name, value in (*header(place, performance.view), ("streams", place.redis_line)):
        print(f"{name}: {value}", flush=True)
    await performance.run()
    for name, value in figures(summarize(performance.view, stage.num_forwards), plan.pace_words_per_s):
        print(f"{name}: {value}")


async def _show_json(stage: Stage, place: Place, plan: Plan) -> None:
    performance = Performance(stage.url, plan)
    await performance.run()
    print_json(document(place, performance.view, summarize(performance.view, stage.num_forwards)))


@contextlib.contextmanager
def _warnings() -> Iterator[None]:
    logs.configure("warning")
    yield


@contextlib.contextmanager
def _held_logs() -> Iterator[None]:
    """Hold warnings back until the live screen is closed."""
    held = io.StringIO()
    terminal = sys.stderr
    try:
        with contextlib.redirect_stderr(held):
            logs.configure("warning")
            with contextlib.redirect_stderr(terminal):
                yield
    finally:
        terminal.write(held.getvalue())
