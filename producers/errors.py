"""Errors on the way to and from the broker, apart from broken rules of the protocol.

    ProducerError
    ├── InvalidBrokerUrl     the URL cannot name a Redis
    ├── BrokerUnreachable    no answer from Redis, or none in time
    ├── BrokerRefused        Redis answered with an error
    ├── WrongShards          the deployment has another number of shards
    ├── SessionExists        the id of the session to create is taken
    ├── SessionNotFound      there is no such session to join, or no session to watch
    ├── OutboxFull           too many unsent events wait for the broker
    ├── TargetGap            events of a target stream are missing
    ├── GatewayUnreachable   no gateway there, or none that serves
    ├── GatewayRefused       the gateway answered with an error
    └── UnreadableSource     the text to send cannot be read

A broken rule of the protocol raises the ProtocolError that a worker would answer with. No message here
ever holds a password: brokers are named by address.
"""


class ProducerError(Exception):
    """A publisher, subscriber or source failed; `str()` says expected, got, where and remedy."""


class InvalidBrokerUrl(ProducerError):
    """The URL cannot name a Redis."""


class BrokerUnreachable(ProducerError):
    """Redis at `address` did not answer; unsent events are kept and go out first with the next call."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"expected Redis at {address}, got no answer: {reason}. "
            "Start it, or name the right one (redis://HOST:PORT/DB); `decalage doctor` checks the connection"
        )
        self.address = address


class BrokerRefused(ProducerError):
    """Redis at `address` answered with an error: out of memory, no permission, or a key of another type."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"Redis at {address} refused the command: {reason}. "
            "Check its user and password, its access rules, its memory, and that no other program uses the key"
        )
        self.address = address


class WrongShards(ProducerError):
    """The deployment has another number of shards, so no worker would hear this publisher's bells."""


class SessionExists(ProducerError):
    """The id of the session to create is taken."""


class SessionNotFound(ProducerError):
    """There is no such session."""


class OutboxFull(ProducerError):
    """The outbox holds as many unsent events as allowed; the new one was refused."""


class TargetGap(ProducerError):
    """The target event numbered `expected` is missing; `got` came instead and was not delivered."""

    def __init__(self, session_id: str, *, expected: int, got: int) -> None:
        super().__init__(
            f"expected event {expected} of session {session_id}, got {got}: the stream was trimmed or replaced; "
            f"read on with after={got - 1}, or open a new session"
        )
        self.expected = expected
        self.got = got


class GatewayUnreachable(ProducerError):
    """The gateway did not answer, or had no worker, for as long as the client was to wait."""


class GatewayRefused(ProducerError):
    """The gateway refused the key, the session or an event; `code` is one of its error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the gateway refused: {message} ({code})")
        self.code = code


class UnreadableSource(ProducerError):
    """The text to send cannot be read, or is not UTF-8."""
