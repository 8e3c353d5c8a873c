"""What is shown of a target stream."""

import json

from hypothesis import given
from hypothesis import strategies as st

from producers.transcript import JsonLines, Shown, Transcript, printable
from protocol import Error, decode_server
from tests.producers.streams import delta, whole_stream


@given(st.integers(0, 8))
def test_running_text_is_the_translation(num_deltas: int) -> None:
    """The texts of the deltas and nothing else, a line for each segment that has words."""
    view = Transcript()
    shown = [view.show(event) for event in whole_stream(num_deltas)]
    assert "".join(part.out for part in shown) == (" mot" * num_deltas + "\n" if num_deltas else "")
    assert shown[-1].err == (
        f"session closed: {num_deltas} source words, {num_deltas} target words, average lagging 2.5 words\n"
    )


def test_errors_go_apart() -> None:
    """Code and message on the standard error; the text goes on."""
    view = Transcript()
    assert view.show(Error(seq=1, code="backlog_full", message="too fast")) == Shown(
        err="error backlog_full: too fast\n"
    )
    view.show(delta(2))
    assert view.is_midline


@given(st.integers(0, 4))
def test_json_lines_are_the_wire(num_deltas: int) -> None:
    """One line for each event, which decodes to it."""
    for event in whole_stream(num_deltas):
        line = JsonLines().show(event).out
        assert line.count("\n") == 1
        assert json.loads(line)["seq"] == event.seq
        assert decode_server(line) == event


@given(st.text())
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    """Escape sequences lose their escape; letters, narrow spaces and emoji stay."""
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown if char not in "\n\t")
    assert printable("l\u202f’été \u00a0: 🙂") == "l\u202f’été \u00a0: 🙂"
