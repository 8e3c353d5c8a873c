"""For services up and down stream of the worker: words into a session, translated words out. Needs no mlx.

`Publisher` (without an event loop: `SyncPublisher`) writes a session's source stream, `Subscriber` reads its target
stream. `Client` and `AsyncClient` do both through the gateway, by WebSocket; they need the extra `client`.
"""

from typing import TYPE_CHECKING, Any

from producers.errors import (
    BrokerRefused,
    BrokerUnreachable,
    GatewayRefused,
    GatewayUnreachable,
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

if TYPE_CHECKING:
    from producers.async_client import AsyncClient
    from producers.client import Client

__all__ = [
    "AsyncClient",
    "BrokerRefused",
    "BrokerUnreachable",
    "Client",
    "GatewayRefused",
    "GatewayUnreachable",
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


def __getattr__(name: str) -> Any:
    # Clients of the gateway need a package that publishers and subscribers do not.
    if name in ("AsyncClient", "Client"):
        from producers import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
