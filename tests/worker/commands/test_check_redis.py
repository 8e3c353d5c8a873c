"""The doctor's look at Redis."""

from pathlib import Path

import pytest
import redis

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


def test_what_is_denied_is_a_failure_with_the_rule_to_set(redis_url: str) -> None:
    """Under the user and the database of the URL; the password is not told."""
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">s3cret", "~*", "+@read", "+@connection")
        try:
            found = check_redis.redis(redis_url.replace("redis://", "redis://reader:s3cret@").replace("/0", "/3"))
        finally:
            client.acl_deluser("reader")
    assert found.status == "failed"
    assert "denies to the user reader: " in found.text
    assert {"EVALSHA on decalage:{workers}:live", "SCRIPT"} & set(found.facts["denied"])
    assert "ACL SETUSER reader ~decalage:*" in found.remedy
    assert "s3cret" not in str(found.as_json())


@pytest.mark.parametrize(("place", "said"), [("/99", "refuses this login: SELECT"), ("/0", "cannot serve now")])
def test_a_server_that_answers_is_not_yet_one_that_serves(redis_url: str, place: str, said: str) -> None:
    """A database that it does not have; a replica."""
    with redis.Redis.from_url(redis_url) as client:
        client.replicaof("127.0.0.1", "1")
        try:
            found = check_redis.redis(redis_url.replace("/0", place))
        finally:
            client.replicaof("NO", "ONE")
    assert (found.status, said in found.text) == ("failed", True)


def test_a_redis_that_may_drop_keys_is_a_warning(redis_url: str) -> None:
    """With the remedy."""
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "volatile-lru")
        try:
            found = check_redis.redis(redis_url)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert (found.status, "volatile-lru" in found.text) == ("warning", True)
    assert "noeviction" in found.remedy


def test_a_password_is_never_shown() -> None:
    """Neither in the text nor in the figures."""
    found = check_redis.redis("redis://:s3cret@127.0.0.1:1/0")
    assert found.status == "failed"
    assert "s3cret" not in str(found.as_json())


@pytest.mark.parametrize("url", ["redis://:s3cret", "redis://:s3cret@h?foo=1", "redis://:s3cret@h..i:1"])
def test_a_url_that_cannot_be_read_is_a_failure_with_the_reason(url: str) -> None:
    """It is no bug of the program, and its password is not told."""
    found = check_redis.redis(url)
    assert (found.status, found.text.startswith("expected ")) == ("failed", True)
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
