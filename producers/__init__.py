"""For services up and down stream of the worker: words into a session, translated words out. Needs no mlx.

`Publisher` writes a session's source stream, `Subscriber` reads its target stream.
"""

from producers.errors import (
    BrokerRefused,
    BrokerUnreachable,
    InvalidBrokerUrl,
    OutboxFull,
    ProducerError,
    SessionExists,
    SessionNotFound,
    TargetGap,
    UnreadableSource,
)
from producers.publisher import Publisher
from producers.subscriber import Subscriber

__all__ = [
    "BrokerRefused",
    "BrokerUnreachable",
    "InvalidBrokerUrl",
    "OutboxFull",
    "ProducerError",
    "Publisher",
    "SessionExists",
    "SessionNotFound",
    "Subscriber",
    "TargetGap",
    "UnreadableSource",
]
