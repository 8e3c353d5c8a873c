"""Where commands find their Redis."""

from pathlib import Path

import pytest

from worker.commands.broker_url import redis_url
from worker.io import broker


def _broker(*, started: bool) -> broker.Broker:
    return broker.Broker(url="redis://127.0.0.1:7/0", pid=1, kind="redis-server", version="8", started=started)


def test_option_then_variable_then_embedded_broker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--redis wins over DECALAGE_REDIS, which wins over the broker of this machine."""
    monkeypatch.setattr(broker, "ensure_broker", lambda: _broker(started=False))
    monkeypatch.setenv("DECALAGE_REDIS", "redis://variable")
    assert redis_url("redis://option") == "redis://option"
    assert redis_url(None) == "redis://variable"
    monkeypatch.delenv("DECALAGE_REDIS")
    assert redis_url(None) == "redis://127.0.0.1:7/0"
    assert capsys.readouterr() == ("", "")


def test_whoever_starts_the_broker_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no broker ran, no worker can be there yet: stderr says how to start one."""
    monkeypatch.delenv("DECALAGE_REDIS", raising=False)
    monkeypatch.setattr(broker, "ensure_broker", lambda: _broker(started=True))
    redis_url(None)
    out, err = capsys.readouterr()
    assert out == ""
    assert "decalage serve" in err


def test_a_broker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error of the broker comes through."""
    monkeypatch.delenv("DECALAGE_REDIS", raising=False)
    monkeypatch.setenv("DECALAGE_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("DECALAGE_BROKER", "nonsense")
    with pytest.raises(broker.BrokerError):
        redis_url(None)
