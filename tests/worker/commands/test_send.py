"""`decalage send` on the command line; what it sends is tested with `producers.send`."""

import pytest

from protocol import source_key
from tests.worker.commands.conftest import Decalage


def test_words_go_to_the_named_redis(decalage: Decalage, redis_url: str) -> None:
    """--redis names the broker; the object tells the session."""
    import redis

    ran = decalage("send", "--redis", redis_url, "--json", "--session", "talk-1", "Good", "morning.")
    assert ran.status == 0
    assert ran.json["session"] == "talk-1"
    with redis.Redis.from_url(redis_url) as client:
        assert client.xlen(source_key("talk-1")) == ran.json["events"]


def test_the_variable_names_it_too(decalage: Decalage, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """DECALAGE_REDIS counts where --redis is not given."""
    monkeypatch.setenv("DECALAGE_REDIS", redis_url)
    assert decalage("send", "--session", "talk-2", "Good", "morning.").status == 0


def test_errors(decalage: Decalage, redis_url: str) -> None:
    """A file that is not there and a Redis that does not answer are errors without a traceback."""
    for options in (["--file", "/no/such/file", "--redis", redis_url], ["--redis", "redis://127.0.0.1:1", "Hello"]):
        ran = decalage("send", *options)
        assert ran.status == 1
        assert "error: " in ran.err
        assert "Traceback" not in ran.err
