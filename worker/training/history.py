"""The log of a run, one event a line, and its losses as a picture."""

from pathlib import Path

import msgspec

from worker.training.events import Event, Stepped, Validated

LOG, CURVE = "log.jsonl", "loss.png"


class History:
    """`log.jsonl` of a run's directory. What stands there beyond `step` is of a future that a resumed run replaces."""

    def __init__(self, directory: Path, step: int = 0) -> None:
        self._path = directory / LOG
        known = read_log(self._path) if step and self._path.exists() else []
        kept = [event for event in known if not isinstance(event, Stepped | Validated) or event.step <= step]
        self._path.write_bytes(b"".join(map(_line, kept)))

    def add(self, event: Event) -> None:
        """The log has one more line."""
        with self._path.open("ab") as file:
            file.write(_line(event))


def read_log(path: Path) -> list[Event]:
    """The events of a log; a line that a kill has cut short is left out."""
    events: list[Event] = []
    for line in path.read_bytes().splitlines():
        try:
            events.append(msgspec.json.decode(line, type=Event))
        except msgspec.DecodeError:
            continue
    return events


def draw_curve(directory: Path) -> Path:
    """The picture of training and validation losses by step. Raises ModuleNotFoundError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    events = read_log(directory / LOG)
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)  # draws into memory, whatever display there is
    axes = figure.add_subplot()
    steps = [event for event in events if isinstance(event, Stepped)]
    valids = [event for event in events if isinstance(event, Validated) and not event.averaged]
    axes.plot([event.step for event in steps], [event.loss for event in steps], lw=0.6, alpha=0.5, label="training")
    for name in dict.fromkeys(name for event in valids for name in event.loss):
        points = [(event.step, event.loss[name]) for event in valids if name in event.loss]
        axes.plot(*zip(*points, strict=True), marker=".", label=f"validation, k = {name}")
    axes.set(xlabel="step", ylabel="loss (nats a token)")
    axes.grid(alpha=0.3)
    axes.legend()
    path = directory / CURVE
    figure.savefig(path, dpi=120)
    return path


def _line(event: Event) -> bytes:
    return msgspec.json.encode(event) + b"\n"
