"""What a worker answers over HTTP."""

import http.client
import json
import socket
import struct
import urllib.error
import urllib.request
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry, Counter

from protocol.hosts import authority
from worker.io.health import LOADING, Condition, PortTaken, Probes


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
    for condition in (None, LOADING):
        probes.ask = (lambda: LOADING) if condition else probes.ask
        status, body = get(f"{root}/readyz")
        reason = "the model is being loaded" if condition else "Redis has not answered yet"
        assert (status, json.loads(body)) == (503, {"ok": False, "reasons": [reason]})
    probes.ask = Condition
    assert json.loads(get(f"{root}/readyz")[1]) == {"ok": True, "reasons": []}
    assert get(f"{root}/elsewhere")[0] == 404


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "localhost", "", "0.0.0.0"])
def test_every_kind_of_host(host: str, probes: Probes) -> None:
    """IPv6 with and without brackets, names, and all addresses; the URL that is told leads there."""
    port = probes.serve(host, 0)
    asked = {"::": "::1", "": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host)
    assert get(f"http://{authority(asked, port)}/livez")[0] == 200
    if host == "::":
        assert get(f"http://127.0.0.1:{port}/livez")[0] == 200


def test_a_host_of_another_machine(probes: Probes) -> None:
    """The error names the option."""
    for host in ("192.0.2.1", "2001:db8::1", "no such host"):
        with pytest.raises(PortTaken, match="--metrics-host"):
            probes.serve(host, 0)


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/elsewhere"])
def test_head_tells_what_get_would(path: str, probes: Probes) -> None:
    """Status and headers are the same; a body does not follow."""
    port = probes.serve("127.0.0.1", 0)
    answers = []
    for method in ("GET", "HEAD"):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            answers.append((answer.status, answer.getheader("Content-Type"), answer.getheader("Content-Length")))
            assert bool(answer.read()) == (method == "GET")
    assert answers[0] == answers[1]


def test_a_client_that_hangs_up_is_no_event(probes: Probes, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is written about it, and others are answered."""
    port = probes.serve("127.0.0.1", 0)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # resets it
    assert get(f"http://127.0.0.1:{port}/livez")[0] == 200
    assert capfd.readouterr().err == ""


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
