"""The checkpoint of a session: the blob in its state hash from which the next owner continues."""

import msgspec

from worker.core.replay import Base, Progress

_LOST = "lost"


_FORMAT = 1
"""Written before the fields. Raise it when a field of these Structs changes its meaning or its place; a new last field
needs no other number.
"""


class Checkpoint(msgspec.Struct, frozen=True, array_like=True, tag=_FORMAT):
    """What the next owner needs to continue a session, stored as one blob in its state hash.

    The epoch and the failure counts are separate fields of the hash, written by the Lua scripts.
    """

    status: str = "absent"  # a SessionPhase, or "lost"
    cursor: str = "0-0"  # last source entry whose events have been applied
    source_seq: int | None = None  # the producer's last number
    progress: Progress = Progress()
    base: Base | None = None  # where a replay begins; None: at the log's beginning
    idle_cursor: str = ""  # the last source entry before the session began to close for idleness, if it has

    @property
    def is_lost(self) -> bool:
        """Whether the checkpoint is gone, or another version's, so that only the number of target events is known."""
        return self.status == _LOST


class UnreadableCheckpoint(Exception):
    """The checkpoint in the state hash cannot be decoded: another version, or another program, has written it."""


def lost(num_events: int) -> Checkpoint:
    """Return the checkpoint of a session of which only the number of target events is known."""
    return Checkpoint(status=_LOST, progress=Progress(seq=num_events))


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the blob of a checkpoint."""
    return _ENCODER.encode(checkpoint)


def decode(blob: bytes) -> Checkpoint:
    """Return the checkpoint in a blob. Raises UnreadableCheckpoint."""
    try:
        return _DECODER.decode(blob)
    except msgspec.DecodeError as error:
        raise UnreadableCheckpoint(
            f"expected a checkpoint of this version of Decalage in the session's state hash, got {error}: another "
            "version, or another program, has written it; let the other version end the session, or delete the key"
        ) from error


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Checkpoint)
