"""What `decalage train` shows, and what stops it."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from types import FrameType, TracebackType

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from worker.training.events import Event, Loaded, Note, Saved, Stepped, Validated

Report = Callable[[Event], None]


class Stop:
    """Asked between steps: true once Ctrl-C or SIGTERM came, or the time is over.

    Until it is asked for the first time (the data is still being read) a signal ends the program as always, and so
    does a second one.
    """

    def __init__(self, time_limit_s: float | None = None) -> None:
        self.is_signalled = False
        self._deadline_s = None if time_limit_s is None else monotonic() + time_limit_s
        self._old: dict[signal.Signals, object] = {}

    def __call__(self) -> bool:
        """Tell whether to stop."""
        if not self._old:
            self._old = {kind: signal.signal(kind, self._stop) for kind in (signal.SIGINT, signal.SIGTERM)}
        return self.is_signalled or (self._deadline_s is not None and monotonic() >= self._deadline_s)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.is_signalled = True
        self._restore()
        self._old = {signal.Signals(number): None}  # asked again, it does not listen any more

    def _restore(self) -> None:
        for kind, handler in self._old.items():
            if handler is not None:
                signal.signal(kind, handler)  # type: ignore[arg-type]  # what signal.signal gave

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()
        self._old = {}


@contextmanager
def view(steps: int, *, as_json: bool) -> Iterator[Report]:
    """Shows events: JSON lines on stdout, or notes and a bar on stderr (lines now and then if it is no terminal)."""
    if as_json:
        yield _print_json
        return
    console = Console(stderr=True, highlight=False)
    columns = ("[progress.description]{task.description}", "{task.fields[figures]}")
    bar = Progress(TextColumn(columns[0]), BarColumn(), MofNCompleteColumn(), TextColumn(columns[1]), console=console)
    if not sys.stderr.isatty():
        yield lambda event: _print_plain(console, event)
        return
    with bar:
        task = bar.add_task("training", total=steps, figures="")

        def show(event: Event) -> None:
            if isinstance(event, Stepped):
                bar.update(task, completed=event.step, figures=figures(event))
            else:
                console.print(sentence(event), style="dim", markup=False)

        yield show


def figures(event: Stepped) -> str:
    """Loss, speed and time left, short.

    >>> figures(Stepped(1, 9, 2.5, (3,), 0.1, 1.0, 100, tokens_per_s=1650.4, left_s=61.2))
    'loss 2.500, 1,650 tokens/s, 0:01:01 left'
    """
    left = timedelta(seconds=round(event.left_s))
    return f"loss {event.loss:.3f}, {event.tokens_per_s:,.0f} tokens/s, {left} left"


def sentence(event: Event) -> str:
    """The event in one line."""
    match event:
        case Stepped():
            return f"step {event.step} of {event.steps}: {figures(event)}"
        case Loaded():
            left_out = ", ".join(f"{count:,} {reason}" for reason, count in event.left_out.items()) or "none"
            return f"{event.file}: {event.used:,} rows into {event.language}; left out: {left_out}"
        case Validated():
            losses = ", ".join(f"{loss:.3f} (k = {name})" for name, loss in event.loss.items())
            return f"step {event.step}, validation{', mean weights' if event.averaged else ''}: {losses}"
        case Saved():
            return f"step {event.step}: saved {event.path}"
        case Note():
            return event.text


def _print_json(event: Event) -> None:
    print(msgspec.json.encode(event).decode(), flush=True)


def _print_plain(console: Console, event: Event) -> None:
    if not isinstance(event, Stepped) or event.step == 1 or event.step % 50 == 0:
        console.print(sentence(event), markup=False, soft_wrap=True)
