"""`decalage serve`: its options, and what keeps it from starting."""

import socket
from collections.abc import Iterator

import pytest
import structlog

from tests.worker.commands.conftest import Decalage
from worker.app import serve as app
from worker.app.config import Settings


@pytest.fixture(autouse=True)
def _restore_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_options_win_over_variables(decalage: Decalage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is given counts, else its variable, else the default."""
    seen: list[Settings] = []

    async def serve(settings: Settings) -> None:
        seen.append(settings)

    monkeypatch.setattr(app, "serve", serve)
    monkeypatch.setenv("DECALAGE_LEASE_MS", "700")
    monkeypatch.setenv("DECALAGE_MAX_SESSIONS", "5")
    monkeypatch.setenv("DECALAGE_KV_BITS", "4")
    assert decalage("serve", "--redis", "redis://h", "--max-sessions", "6", "--metrics-port", "-1").status == 0
    assert seen == [Settings(redis="redis://h", lease_ms=700, max_sessions=6, metrics_port=-1, kv_bits=4)]


@pytest.mark.parametrize(
    "option", ["--max-sessions", "--max-batch-size", "--max-draft-tokens", "--lease-ms", "--sweep-ms"]
)
def test_no_knob_takes_zero(option: str, decalage: Decalage) -> None:
    """A number that no worker could run with is a usage error."""
    assert decalage("serve", option, "0").status == 2


@pytest.mark.parametrize(("variable", "value"), [("DECALAGE_MAX_SESSIONS", "many"), ("DECALAGE_KV_BITS", "5")])
def test_a_wrong_variable_is_named(
    variable: str, value: str, decalage: Decalage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable and what it holds."""
    monkeypatch.setenv(variable, value)
    ran = decalage("serve", "--redis", "redis://127.0.0.1:1")
    assert ran.status == 1
    assert f"{variable}={value!r}" in ran.err


@pytest.mark.parametrize(("url", "part"), [("redis://127.0.0.1:1",) * 2, ("nonsense", "expected redis://HOST:PORT/DB")])
def test_no_redis_there(url: str, part: str, decalage: Decalage) -> None:
    """A Redis that does not answer, or a URL that is none, is one line; what may hold a password is not repeated."""
    ran = decalage("serve", "--redis", url)
    assert ran.status == 1
    assert ran.err.startswith("decalage: error: ")
    assert part in ran.err
    assert ran.err.count("\n") == 1


def test_the_port_of_the_metrics_is_taken(decalage: Decalage, redis_url: str) -> None:
    """Another program on the metrics' port: the error names it and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = decalage("serve", "--redis", redis_url, "--metrics-port", port)
    assert ran.status == 1
    assert f"127.0.0.1:{port}" in ran.err
    assert "--metrics-port" in ran.err


def test_an_unknown_model(decalage: Decalage, redis_url: str) -> None:
    """A model that is not there ends the worker before it takes a session."""
    ran = decalage("serve", "--redis", redis_url, "--metrics-port", "-1", "--model", "nope", "--log-level", "error")
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert "no model directory or GGUF file 'nope'" in ran.err
