"""What a worker answers over HTTP."""

import json
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

from worker.io.health import Condition, PortTaken, Probes


def get(url: str) -> tuple[int, bytes]:
    """Status and body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.fixture
def probes() -> Probes:
    """Of a registry with one metric."""
    registry = CollectorRegistry()
    Counter("decalage_words", "Words.", registry=registry)
    return Probes(registry)


def test_what_each_path_answers(probes: Probes) -> None:
    """Metrics in Prometheus's format; a worker is unready until somebody says how it is; other paths are not there."""
    root = f"http://127.0.0.1:{probes.serve('127.0.0.1', 0)}"
    status, page = get(f"{root}/metrics")
    assert status == 200
    assert b"decalage_words_total 0.0" in page
    assert get(f"{root}/livez")[0] == 200
    status, body = get(f"{root}/readyz")
    assert (status, json.loads(body)) == (503, {"ok": False, "reasons": ["the model is being loaded"]})
    probes.ask = Condition
    assert json.loads(get(f"{root}/readyz")[1]) == {"ok": True, "reasons": []}
    assert get(f"{root}/elsewhere")[0] == 404


def test_who_is_dead_is_not_ready_either(probes: Probes) -> None:
    """The reasons are told, those of death on both paths."""
    probes.ask = lambda: Condition(dead=("stuck",), unready=("draining",))
    assert [json.loads(probes.answer(path)[2])["reasons"] for path in ("/livez", "/readyz")] == [
        ["stuck"],
        ["stuck", "draining"],
    ]


def test_a_port_that_is_taken(probes: Probes) -> None:
    """The error names the port and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{port}.*--metrics-port"):
            probes.serve("127.0.0.1", port)
