"""For services up and down stream of the worker: words into a session, translated words out. Needs no mlx.

`Publisher` (without an event loop: `SyncPublisher`) writes a session's source stream, `Subscriber` reads its target
stream.
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
    WrongShards,
)
from producers.publisher import Publisher
from producers.subscriber import Subscriber
from producers.sync import SyncPublisher

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
    "SyncPublisher",
    "TargetGap",
    "UnreadableSource",
    "WrongShards",
]
