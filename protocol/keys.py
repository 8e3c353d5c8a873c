"""Every Redis key of Decalage, in one place.

    decalage:{ID}:source      stream   client -> worker   one JSON event per entry, in the field `event`
    decalage:{ID}:target      stream   worker -> client   the same; entry ids are `<seq>-0`
    decalage:{ID}:state       hash     the session's checkpoint and fence
    decalage:{workers}:bell:N   stream   client -> worker   "this session has news", its id in the field `session`
    decalage:{workers}:lease:N  hash     the shard's owner, the epoch, and when the lease ends
    decalage:{workers}:sessions:N  zset   the shard's open sessions, by expiry time
    decalage:{workers}:heard    hash     the last entry id read of each shard's bell, in field N
    decalage:{workers}:live     hash     the living workers and the room that each has
    decalage:{workers}:freed    stream   worker -> worker   "shards have been given back"
    decalage:{workers}:shards   string   the number of shards, fixed at the first start
    decalage:{workers}:dead     stream   worker -> operator   events at which several workers failed, and why
    decalage:{workers}:configure  stream   operator -> workers
    decalage:{workers}:stats      stream   worker -> all
    decalage:{gateway}:wake:ID    stream   gateway -> itself   "read another session too"

The braces are part of the keys: they are Redis's hash tag, and keep a session's keys on one node of a cluster, where
one script may change them together. The same holds for the workers' keys, where one blocking read takes all bells. A
session belongs to shard crc32(ID) mod 16. The functions here only build keys: check an id from outside with
`check_session_id` first.
"""

import re
import zlib
from typing import Final

from protocol.errors import InvalidSessionId
from protocol.limits import MAX_SESSION_ID_BYTES

NUM_SHARDS: Final = 16
"""Default number of shards of a deployment; all its workers and publishers must use the same number."""

EVENT_FIELD: Final = "event"
"""The field of a stream entry that holds the event's JSON."""

VISIBLE_FIELD: Final = "visible"
"""The field of a target word's entry that only the session's next worker reads, to take the session over."""

OWNER_FIELD: Final = "owner"
"""The field of a session's first source entry that names the gateway's key which opened it; a worker ignores it."""

BELL_FIELD: Final = "session"
"""The field of a bell entry that holds the id of the session with news."""

CLOSED_TTL_S: Final = 3_600
"""How long a closed session's keys stay readable."""

ABANDONED_TTL_S: Final = 86_400
"""How long the keys of an untouched session stay."""

CONFIGURE_KEY: Final = "decalage:{workers}:configure"
STATS_KEY: Final = "decalage:{workers}:stats"
LIVE_KEY: Final = "decalage:{workers}:live"
HEARD_KEY: Final = "decalage:{workers}:heard"
FREED_KEY: Final = "decalage:{workers}:freed"
DEAD_KEY: Final = "decalage:{workers}:dead"
SHARDS_KEY: Final = "decalage:{workers}:shards"
SOURCE_PATTERN: Final = "decalage:{*}:source"
"""Matches every source stream in SCAN; braces are plain characters in Redis's patterns."""

SESSION_ID_PATTERN: Final = rf"^[A-Za-z0-9._:-]{{1,{MAX_SESSION_ID_BYTES}}}$"
_SESSION_ID = re.compile(SESSION_ID_PATTERN)
_SOURCE_KEY = re.compile(r"decalage:\{(.*)\}:source", re.DOTALL)


def source_key(session_id: str) -> str:
    """Return the key of the stream that the session's clients write.

    >>> source_key("talk-1")
    'decalage:{talk-1}:source'
    """
    return f"decalage:{{{session_id}}}:source"


def target_key(session_id: str) -> str:
    """Return the key of the stream that the session's worker writes.

    >>> target_key("talk-1")
    'decalage:{talk-1}:target'
    """
    return f"decalage:{{{session_id}}}:target"


def state_key(session_id: str) -> str:
    """Return the key of the hash with the session's checkpoint and fence.

    >>> state_key("talk-1")
    'decalage:{talk-1}:state'
    """
    return f"decalage:{{{session_id}}}:state"


def session_of(key: str | bytes) -> str:
    """Return the session whose source stream has this key. Raises InvalidSessionId for any other key.

    >>> session_of("decalage:{talk-1}:source")
    'talk-1'
    """
    text = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else key
    match = _SOURCE_KEY.fullmatch(text)
    if match is None:
        raise InvalidSessionId(f"expected a key like {source_key('ID')!r}, got {text[:MAX_SESSION_ID_BYTES]!r}")
    return check_session_id(match[1])


def shard_of(session_id: str, num_shards: int = NUM_SHARDS) -> int:
    """Return the session's shard in [0, num_shards); the same in every language that has crc32.

    >>> shard_of("talk-1")
    6
    """
    return zlib.crc32(session_id.encode()) % num_shards


def bell_key(shard: int) -> str:
    """Return the key of the shard's doorbell stream.

    >>> bell_key(3)
    'decalage:{workers}:bell:3'
    """
    return f"decalage:{{workers}}:bell:{shard}"


def lease_key(shard: int) -> str:
    """Return the key of the hash that says which worker owns the shard.

    >>> lease_key(3)
    'decalage:{workers}:lease:3'
    """
    return f"decalage:{{workers}}:lease:{shard}"


def index_key(shard: int) -> str:
    """Return the key of the sorted set by which the next worker finds the shard's sessions.

    >>> index_key(3)
    'decalage:{workers}:sessions:3'
    """
    return f"decalage:{{workers}}:sessions:{shard}"


def wake_key(reader_id: str) -> str:
    """Return the key of the stream by which a gateway interrupts its own blocking read.

    >>> wake_key("1f")
    'decalage:{gateway}:wake:1f'
    """
    return f"decalage:{{gateway}}:wake:{reader_id}"


def check_session_id(session_id: str) -> str:
    """Return the id if it may name a session. Raises InvalidSessionId with the rule.

    >>> check_session_id("room-7:alice")
    'room-7:alice'
    """
    if not isinstance(session_id, str):
        raise InvalidSessionId(f"expected a session id, a str such as 'talk-1', got {type(session_id).__name__}")
    if _SESSION_ID.fullmatch(session_id) is None:
        raise InvalidSessionId(
            f"expected a session id of 1 to {MAX_SESSION_ID_BYTES} characters out of A-Z a-z 0-9 . _ : -, "
            f"got {len(session_id)} characters: {session_id[:MAX_SESSION_ID_BYTES]!r}"
        )
    return session_id
