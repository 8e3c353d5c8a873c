"""`decalage watch` on the command line; what it shows is tested with `producers.watch`."""

from tests.worker.commands.conftest import Decalage


def test_a_redis_that_does_not_answer(decalage: Decalage) -> None:
    """It is named, and there is no traceback."""
    ran = decalage("watch", "talk-1", "--redis", "redis://127.0.0.1:1")
    assert ran.status == 1
    assert "redis://127.0.0.1:1" in ran.err
    assert "Traceback" not in ran.err


def test_no_session_to_watch(decalage: Decalage, redis_url: str) -> None:
    """An empty Redis has none; the error says how to open one."""
    ran = decalage("watch", "--redis", redis_url)
    assert ran.status == 1
    assert "decalage send" in ran.err
