"""Which producer's numbers count: one at a time, whoever has gone on with them last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import Numbering, ProducerConflict, ProtocolError, SequenceGap, check_seq
from protocol.numbering import MAX_REPLACED

NAMES = st.sampled_from(["a", "b", "c", None])


@given(st.lists(st.integers(0, 9)), NAMES)
def test_one_producer_counts_as_ever(numbers: list[int], name: str | None) -> None:
    """Law: of one producer alone, named or not, `take` decides as `check_seq` does."""
    numbering = Numbering()
    for seq in numbers:
        try:
            expected = check_seq(numbering.last, seq)
        except SequenceGap:
            with pytest.raises(SequenceGap):
                numbering.take(seq, name)
            continue
        after = numbering.take(seq, name)
        assert (after is None) == (expected == "duplicate")
        numbering = after or numbering
        assert numbering.last == (seq if after else numbering.last)


@given(st.lists(st.tuples(NAMES, st.integers(0, 6) | st.none())))
def test_no_number_is_given_to_two(events: list[tuple[str | None, int | None]]) -> None:
    """Law: of all events of named producers, each number is taken once, and a repetition is only ever the owner's."""
    numbering, owners = Numbering(), dict[int, str | None]()
    for name, seq in events:
        try:
            after = numbering.take(seq, name)
        except ProducerConflict as conflict:
            numbering = numbering.without(conflict.producer)
            continue
        except ProtocolError:
            continue
        if seq is None:
            assert after == numbering
        elif after is None:
            assert owners.get(seq, name) == name or name == numbering.producer
        else:
            assert seq not in owners
            owners[seq] = name
            numbering = after
        assert len(numbering.replaced) <= MAX_REPLACED
        assert "" not in numbering.replaced


def test_who_has_been_replaced_is_refused_for_good() -> None:
    """Also with the number that would be next; the message says who has taken over and what to do."""
    numbering = Numbering(3, "first").take(4, "second")
    assert numbering is not None
    for seq in (3, 4, 5, 9):
        with pytest.raises(ProducerConflict, match=f"taken over .* up to 4, the {seq} of this one.*Let only one"):
            numbering.take(seq, "first")
    assert numbering.take(5, "second") == Numbering(5, "second", ("first",))
    assert numbering.take(4, "second") is None


def test_who_comes_too_late_does_not_take_over_with_its_next_number() -> None:
    """Two that join at once: the first to be read stays."""
    numbering = Numbering(4, "fast", ("old",))
    with pytest.raises(ProducerConflict) as late:
        numbering.take(4, "late")
    with pytest.raises(ProducerConflict):
        numbering.without(late.value.producer).take(5, "late")
