"""The comparison of target streams."""

import itertools
from random import Random

from tests.chaos.check import Entry, compare
from tests.chaos.faults import LARGE, make_plan
from tests.chaos.talks import make_talks


def events(*seqs: int) -> list[Entry]:
    """A stream of these events."""
    return [(f"{seq}-0", {"seq": seq, "word": f"w{seq}", "elapsed_ms": seq * len(seqs)}) for seq in seqs]


EXPECTED = {"talk": [event for _, event in events(1, 2, 3)]}


def counts(found: list[Entry]) -> tuple[int, int, int, int]:
    """Lost, duplicated, reordered, different."""
    findings = compare(EXPECTED, {"talk": found})
    assert findings.sessions == ([] if findings.is_clean else ["talk"])
    return findings.lost, findings.duplicated, findings.reordered, findings.different


def test_what_is_wrong_is_called_by_its_name() -> None:
    """Times do not count; everything else does, the entry's id too."""
    assert counts(events(1, 2, 3)) == (0, 0, 0, 0)
    assert counts(events(1, 3)) == (1, 0, 0, 0)
    assert counts([]) == (3, 0, 0, 0)
    assert counts(events(1, 2, 2, 3)) == (0, 1, 0, 0)
    assert counts(events(1, 3, 2)) == (0, 0, 1, 0)
    assert counts(events(1, 2, 3, 4)) == (0, 0, 0, 1)
    assert counts([*events(1, 2), ("99-0", {"seq": 3, "word": "w3"})]) == (0, 0, 0, 1)
    assert counts([*events(1, 2), ("3-0", {"seq": 3, "word": "other"})]) == (0, 0, 0, 1)
    assert compare(EXPECTED, {}).lost == 3


def test_a_seed_makes_the_same_run() -> None:
    """Talks and plan follow from the seed; every large fault has its time for itself."""
    kinds = ["kill", "kill", "restart", "hold"]
    plan, again = make_plan(Random(5), kinds), make_plan(Random(5), kinds)  # type: ignore[arg-type]
    assert plan == again != make_plan(Random(6), kinds)  # type: ignore[arg-type]
    large = [fault for fault in plan if fault.kind in LARGE]
    assert sorted(fault.kind for fault in large) == sorted(kinds)
    for one, other in itertools.pairwise(large):
        assert other.at_s - one.at_s >= LARGE[one.kind]
    assert make_talks(5, 4, 30) == make_talks(5, 4, 30)
    assert [talk.num_words for talk in make_talks(5, 4, 30)] == [30] * 4
