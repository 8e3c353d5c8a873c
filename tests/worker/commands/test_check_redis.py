"""The doctor's look at Redis."""

from pathlib import Path

import pytest

from worker.commands import check_redis
from worker.io import broker


@pytest.fixture(autouse=True)
def _own_runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECALAGE_RUNTIME_DIR", str(tmp_path))
    for name in ("DECALAGE_BROKER", "DECALAGE_REDIS"):
        monkeypatch.delenv(name, raising=False)


def test_a_server_that_answers(redis_url: str) -> None:
    """Its version and its address are told."""
    found = check_redis.redis(redis_url)
    assert found.status == "ok"
    assert found.facts["version"] in found.text


def test_options_without_effect_are_told(redis_url: str) -> None:
    """Those that other programs have put into the URL."""
    found = check_redis.redis(f"{redis_url}?protocol=3&socket_timeout=9")
    assert found.status == "ok"
    assert "protocol, socket_timeout of the URL have no effect" in found.text
    assert found.facts["url"] == redis_url


def test_a_password_is_never_shown() -> None:
    """Neither in the text nor in the figures."""
    found = check_redis.redis("redis://:s3cret@127.0.0.1:1/0")
    assert found.status == "failed"
    assert "s3cret" not in str(found.as_json())


def test_the_embedded_broker_that_runs_is_asked(redis_url: str, tmp_path: Path) -> None:
    """The record in the runtime directory leads to it; a stale record is passed over."""
    record = broker.BrokerRecord(url=redis_url, pid=1, kind="redis-server", version="8")
    broker.write_record(tmp_path, record)
    assert check_redis.redis(None).facts == {
        "url": redis_url,
        "version": check_redis.redis(redis_url).facts["version"],
        "embedded": True,
    }
    broker.write_record(tmp_path, broker.BrokerRecord("redis://127.0.0.1:1/0", 1, "redis-server", "8"))
    assert "none running" in check_redis.redis(None).text


def test_what_the_embedded_broker_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server is best, fakeredis will do, nothing at all is a failure with a remedy."""
    assert check_redis.redis(None).status == "ok"
    monkeypatch.setattr(check_redis, "find_redis_servers", lambda: [])
    assert check_redis.redis(None).status == "warning"
    monkeypatch.setenv("DECALAGE_BROKER", "redis-server")
    nothing = check_redis.redis(None)
    assert nothing.status == "failed"
    assert "decalage[broker]" in nothing.remedy
