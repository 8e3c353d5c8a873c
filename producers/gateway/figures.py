"""The gateway's own figures, for `/metrics` and `/v1/stats`."""

from typing import Final

from msgspec import Struct

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Figures(Struct):
    """Counts since the start."""

    requests: int = 0
    """HTTP requests answered."""
    failures: int = 0
    """Answers with a status of 500 or above."""
    generations: int = 0
    """Prompts of `/v1/generate` and `/v1/generate_batch` that were answered."""
    generation_s: float = 0.0
    """Seconds that these took, all together."""
    sessions: int = 0
    """Sessions opened here."""
    input_events: int = 0
    """Client events accepted."""
    output_events: int = 0
    """Events sent to listeners."""
    slow_listeners: int = 0
    """Listeners that were cut off because they took nothing."""


_HELP: Final = {
    "requests": "HTTP requests answered.",
    "failures": "HTTP answers with a status of 500 or above.",
    "generations": "Prompts answered.",
    "generation_s": "Seconds that these prompts took, all together.",
    "sessions": "Sessions opened.",
    "input_events": "Client events accepted.",
    "output_events": "Events sent to listeners.",
    "slow_listeners": "Listeners cut off because they took nothing.",
}
_UNITS: Final = {"generation_s": "generation_seconds"}


def exposition(figures: Figures, *, num_connections: int, num_feeds: int) -> str:
    """Return the figures in Prometheus's text format."""
    lines = []
    for name, text in _HELP.items():
        metric = f"decalage_gateway_{_UNITS.get(name, name)}_total"
        lines += [f"# HELP {metric} {text}", f"# TYPE {metric} counter", f"{metric} {getattr(figures, name)}"]
    gauges = {
        "connections": (num_connections, "Open WebSockets and event streams."),
        "feeds": (num_feeds, "Sessions that somebody listens to."),
    }
    for name, (value, text) in gauges.items():
        metric = f"decalage_gateway_{name}"
        lines += [f"# HELP {metric} {text}", f"# TYPE {metric} gauge", f"{metric} {value}"]
    return "\n".join(lines) + "\n"
