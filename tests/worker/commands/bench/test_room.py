"""Sessions served without Redis."""

import pytest

from protocol import InputTextAppend, InputTextFinalize, Session, SessionClose
from worker.commands.bench.models import rig
from worker.commands.bench.room import Room
from worker.commands.faults import CommandError

pytestmark = pytest.mark.usefixtures("with_model")


def test_a_session_from_its_first_word_to_its_end() -> None:
    """Its words come as it hears others, its delays by the clock; closed, it is gone with all it held."""
    measured = rig("starter", None)
    room = Room(measured)
    room.open("a", Session(target_language="fr"))
    room.hear("a", InputTextAppend(text="Good"), now_ms=10)
    assert room.tick(lambda: 20) is None
    room.hear("a", InputTextAppend(text="morning."), now_ms=30)
    room.hear("a", InputTextFinalize(), now_ms=30)
    written = []
    while (found := room.tick(lambda: 45)) is not None:
        written += found
    assert [(name, word.word, word.delay_ms) for name, word in written] == [("a", "Bonjour.", 15)]
    room.hear("a", SessionClose())
    assert not room.states
    assert measured.runner.num_lanes == 0


def test_closing_the_room_frees_what_is_open() -> None:
    """In the middle of a sentence, too."""
    measured = rig("starter", None)
    room = Room(measured)
    room.open("a", Session(target_language="fr"))
    room.hear("a", InputTextAppend(text="I do not know where"))
    room.tick()
    assert measured.runner.num_lanes == 1
    room.close()
    assert measured.runner.num_lanes == 0


def test_what_the_model_refuses() -> None:
    """It is an error of the command, with the session's own message."""
    with pytest.raises(CommandError, match="'xx'"):
        Room(rig("starter", None)).open("a", Session(target_language="xx"))
