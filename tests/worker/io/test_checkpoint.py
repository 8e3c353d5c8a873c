"""The bytes of a checkpoint."""

import msgspec
import pytest

from protocol import Session
from worker.core.replay import Base, Progress
from worker.core.segment import Decode
from worker.io.checkpoint import Checkpoint, UnreadableCheckpoint, decode, encode

POINT = Checkpoint(
    status="open",
    cursor="17-3",
    source_seq=9,
    progress=Progress(
        seq=12,
        segment_seq=7,
        segment=1,
        decode=Decode(5, (3, 4), 1, (8,), (6,), 2, 11, (9, 10), 4),
        source_words=21,
        target_words=20,
        refused=1,
        created_ms=1_795_771_078_274,
    ),
    base=Base("15-0", Session(target_language="fr"), 4, 1, 10, producer="a", replaced=("b", "c")),
    idle_cursor="16-0",
)
RECORDED = bytes.fromhex("""
    9701a46f70656ea431372d3309980c070199059203040191089106020b92090a04151401cf000001a21c4c168297a431352d308aaf736f75
    7263655f6c616e6775616765a2656eaf7461726765745f6c616e6775616765a26672a670726f6d7074c0a46d6f6465a973747265616d696e
    67ac7365676d656e746174696f6ea66d616e75616ca6706f6c696379c0a873616d706c696e6785ab74656d7065726174757265cb00000000
    00000000a5746f705f70cb3ff0000000000000b272657065746974696f6e5f70656e616c7479c0b772657065746974696f6e5f636f6e7465
    78745f73697a6514a47365656400a66c696d69747384ad6d61785f6e65775f776f726473c0b36d61785f746f6b656e735f7065725f776f72
    6432b16d61785f6261636b6c6f675f776f726473cd2710af69646c655f74696d656f75745f6d73ce000493e0ab73706563756c6174696f6e
    82a7656e61626c6564c3b06d61785f64726166745f746f6b656e7304a86d657461646174618004010aa16192a162a163a431362d30
""")
"""`POINT` as the format 1 was when it was made. A change that breaks the test needs another number of the format."""


def test_what_this_format_has_always_been() -> None:
    """Workers of two versions with the same number read each other's checkpoints."""
    assert decode(RECORDED) == decode(encode(POINT)) == POINT


def test_fields_that_a_later_version_adds_are_left_out() -> None:
    """Behind the last one; and those that an earlier one lacked have their defaults."""
    fields = msgspec.msgpack.decode(RECORDED)
    assert decode(msgspec.msgpack.encode([*fields, "new"])) == POINT
    assert decode(msgspec.msgpack.encode(fields[:-1])) == msgspec.structs.replace(POINT, idle_cursor="")


@pytest.mark.parametrize(
    "blob",
    [b"", b"\xc1", RECORDED[:-1], msgspec.msgpack.encode([2, "open"]), msgspec.msgpack.encode(["open", "17-3", 9])],
    ids=["none", "noise", "cut", "later", "without a number"],
)
def test_others_are_refused(blob: bytes) -> None:
    """By an error that says what to do."""
    with pytest.raises(UnreadableCheckpoint, match="let the other version end the session, or delete the key"):
        decode(blob)
