"""Sessions served without Redis."""

import pytest

from protocol import InputTextAppend, InputTextFinalize, Session, SessionClose
from worker.commands.bench.models import harness
from worker.commands.bench.sessions import close, create, hear, write
from worker.commands.faults import CommandError

pytestmark = pytest.mark.usefixtures("with_model")


def test_a_session_from_its_first_word_to_its_end() -> None:
    """Its words come as it hears others, its delays by the clock; closed, it is gone with all it held."""
    measured = harness("starter", None)
    sessions = measured.sessions()
    create(sessions, "a", Session(target_language="fr"))
    hear(sessions, "a", InputTextAppend(text="Good"), now_ms=10)
    assert write(sessions, measured.engine, lambda: 20) is None
    hear(sessions, "a", InputTextAppend(text="morning."), now_ms=30)
    hear(sessions, "a", InputTextFinalize(), now_ms=30)
    written = []
    while (found := write(sessions, measured.engine, lambda: 45)) is not None:
        written += found
    assert [(name, word.word, word.delay_ms) for name, word in written] == [("a", "Bonjour.", 15)]
    hear(sessions, "a", SessionClose())
    assert not sessions
    assert write(sessions, measured.engine) is not None
    assert measured.runner.num_lanes == 0


def test_closing_frees_what_is_open() -> None:
    """In the middle of a sentence, too."""
    measured = harness("starter", None)
    sessions = measured.sessions()
    create(sessions, "a", Session(target_language="fr"))
    hear(sessions, "a", InputTextAppend(text="I do not know where"))
    write(sessions, measured.engine)
    assert measured.runner.num_lanes == 1
    close(sessions, measured.engine)
    assert measured.runner.num_lanes == 0


def test_what_the_model_refuses() -> None:
    """It is an error of the command, with the session's own message."""
    with pytest.raises(CommandError, match="'xx'"):
        create(harness("starter", None).sessions(), "a", Session(target_language="xx"))
