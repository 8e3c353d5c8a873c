"""The error tree: one root, and messages with address, numbers and remedy."""

import producers
from producers.errors import BrokerRefused, BrokerUnreachable, ProducerError, TargetGap


def test_every_exported_error_has_the_one_root() -> None:
    """`except ProducerError` catches whatever is not the protocol's."""
    errors = [
        getattr(producers, name)
        for name in producers.__all__
        if not name.endswith(("Publisher", "Subscriber", "Client"))
    ]
    assert len(errors) >= 9
    assert all(issubclass(error, ProducerError) for error in errors)


def test_messages_say_where_and_what_to_do() -> None:
    """Expected, got, where, remedy."""
    assert "redis://h:1/0, got no answer: refused. Start it" in str(BrokerUnreachable("redis://h:1/0", "refused"))
    assert "redis://h:1/0 refused the command: OOM" in str(BrokerRefused("redis://h:1/0", "OOM"))
    assert "read on with after=4" in str(TargetGap("s", expected=3, got=5))
