"""The error tree and the codes of the wire."""

import pytest

from protocol import errors
from protocol.errors import REMEDIES, ErrorCode, IllegalEvent, InvalidSessionId, ProtocolError, SequenceGap

CLASSES = sorted(
    (kind for kind in ProtocolError.__subclasses__() if kind.__module__ == errors.__name__),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_a_remedy_of_one_line(code: ErrorCode) -> None:
    """Codes are snake_case and their remedies are single sentences for people."""
    assert code == code.lower()
    assert code.remedy == REMEDIES[code]
    assert code.remedy.endswith(".")
    assert "\n" not in code.remedy


@pytest.mark.parametrize("kind", CLASSES)
def test_the_tree_is_drawn_at_the_top(kind: type[ProtocolError]) -> None:
    """The drawing in the docstring names every class."""
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not InvalidSessionId])
def test_every_error_with_a_stream_has_a_code_of_the_wire(kind: type[ProtocolError]) -> None:
    """What can be answered by an `error` event carries a listed code."""
    assert kind.code in set(ErrorCode)


def test_a_gap_names_the_number_to_send() -> None:
    """The expected number is a value for programs, and in the message for people."""
    gap = SequenceGap(expected=4, got=9)
    assert (gap.expected, gap.got, gap.param, gap.code) == (4, 9, "$.seq", "sequence_gap")
    assert "expected seq 4, got 9" in str(gap)


def test_an_illegal_event_carries_the_code_of_its_rule() -> None:
    """The code is the instance's own; the class keeps its default."""
    assert IllegalEvent("late", code=ErrorCode.SESSION_CLOSED).code == "session_closed"
    assert IllegalEvent("odd").code == "illegal_event"
