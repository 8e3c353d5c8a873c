"""A translation known by heart."""

import pytest
from msgspec.structs import replace

from protocol import Session
from worker.commands.bench.models import harness
from worker.commands.bench.script import Recorded, Script, record
from worker.core.rows import Prompt, Row, SampleSpec, sampled_tokens

PROMPT = Prompt(source=(1,), end=(2,), target=(3,), max_source_tokens=9, max_target_tokens=9)


class Letters:
    """A token for each letter."""

    def encode_word(self, word: str, previous: str) -> tuple[int, ...]:
        """Their codes."""
        return tuple(map(ord, word))


def row(place: int, *drafts: str) -> Row:
    """A row that asks for the token at this place of the script, and verifies drafts of it."""
    target = (0, *map(ord, drafts))
    return Row((0, 0), (), target, place, len(drafts), SampleSpec(position=place + len(PROMPT.target)))


def said(script: Script, *rows: Row) -> list[str]:
    """What the script samples for these rows, one after the other."""
    return ["".join(map(chr, sampled_tokens(script.run([each])[0]))) for each in rows]


def test_words_come_in_order_over_and_over() -> None:
    """Each with all of its tokens."""
    script = Script(Recorded(["ab", "c"], [True]), 4, PROMPT, Letters())
    assert said(script, row(0), row(1), row(2), row(3, "a", "b")) == ["a", "b", "c", "abc"[0:3]]


def test_a_draft_that_was_not_kept_is_not_kept() -> None:
    """A word's first token comes out otherwise once, before its source is read; then as recorded."""
    script = Script(Recorded(["ab", "cd"], [False, True]), 4, PROMPT, Letters())
    assert said(script, row(2), row(2, "a"), row(3)) == ["a", "cc", "d"]
    assert said(script, row(4), row(6), row(6, "a")) == ["a", "a", "cc"]
    assert said(script, replace(row(2), lane=(1, 0)), row(2)) == ["a", "c"]  # in each lane


@pytest.mark.usefixtures("with_model")
def test_what_a_model_writes_is_recorded() -> None:
    """Words and drafts of all sentences, in their order."""
    recorded = record(harness("starter", None), Session(target_language="fr"), [("Good", "morning."), ("It", "rains.")])
    assert recorded.words[0] == "Bonjour."
    assert len(recorded.words) > 2
    assert set(recorded.kept) <= {True, False}
