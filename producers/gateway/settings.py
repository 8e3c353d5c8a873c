"""The gateway's settings."""

from typing import Final

from msgspec import Struct

from protocol.limits import MAX_EVENT_BYTES

KEYS_VARIABLE: Final = "DECALAGE_GATEWAY_KEYS"
SECRET_VARIABLE: Final = "DECALAGE_GATEWAY_SECRET"


class Settings(Struct, frozen=True, kw_only=True):
    """All settings of a gateway, with unit, default and purpose."""

    redis: str  # URL
    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free port
    allowed_origins: tuple[str, ...] = ()  # origins of other pages that may call the gateway from a browser
    secret: bytes = b""  # signs links and client secrets; empty: a random one for each start
    max_body_bytes: int = 1_048_576
    max_frame_bytes: int = MAX_EVENT_BYTES
    body_timeout_s: float = 10.0  # for the whole body of a request
    head_timeout_s: float = 10.0  # for the request line and the headers
    send_timeout_s: float = 10.0  # a listener that takes nothing for this long is cut off
    create_timeout_s: float = 30.0  # how long a WebSocket may wait with its first event
    translation_timeout_s: float = 300.0  # how long one of OpenAI's may wait with its first words
    generate_timeout_s: float = 60.0  # longest wait for the next word of `/v1/generate`
    heartbeat_s: float = 15.0
    max_requests_per_s: float = 1_000.0  # of one key, on average
    burst_requests: int = 2_000  # of one key, at once
    max_messages_per_s: float = 100.0  # of one WebSocket, on average
    burst_messages: int = 1_000  # of one WebSocket, at once
    max_sessions: int = 2_000  # open ones of one key, opened here
    max_connections: int = 5_000  # WebSockets and event streams of one key
