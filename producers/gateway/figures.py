"""The gateway's own figures, for `/metrics` and `/v1/stats`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


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


_COUNTERS: Final = {
    "requests": "HTTP requests answered.",
    "failures": "HTTP answers with a status of 500 or above.",
    "generations": "Prompts answered.",
    "generation_s": "Seconds that these prompts took, all together.",
    "sessions": "Sessions opened.",
    "input_events": "Client events accepted.",
    "output_events": "Events sent to listeners.",
    "slow_listeners": "Listeners cut off because they took nothing.",
}
_NAMES: Final = {"generation_s": "generation_seconds"}


class _FiguresCollector(Collector):
    """Reads the figures when Prometheus asks, so that counting itself costs an addition."""

    def __init__(self, figures: Figures, gauges: Mapping[str, tuple[str, Callable[[], int]]]) -> None:
        self._figures: Final = figures
        self._gauges: Final = gauges

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics with their values now."""
        for name, text in _COUNTERS.items():
            metric = f"decalage_gateway_{_NAMES.get(name, name)}"
            yield CounterMetricFamily(metric, text, value=getattr(self._figures, name))
        for name, (text, value) in self._gauges.items():
            yield GaugeMetricFamily(f"decalage_gateway_{name}", text, value=value())


def registry_of(figures: Figures, gauges: Mapping[str, tuple[str, Callable[[], int]]]) -> CollectorRegistry:
    """Return a registry of the figures, and of gauges by name: the help text, and a call for the value now."""
    registry = CollectorRegistry()
    registry.register(_FiguresCollector(figures, gauges))
    return registry
