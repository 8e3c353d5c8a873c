"""Sessions at which owners fail: a table of the decisions, and a model of workers that die at any moment."""

from collections.abc import Collection

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import quarantine
from worker.core.quarantine import (
    EXCLUSIVE_PASSES,
    MAX_ATTEMPTS,
    QUARANTINE_OWNERS,
    RETRY_MS,
    Committed,
    Failed,
    Failure,
    Look,
    Opened,
    Ran,
    Record,
    Released,
    Suspects,
    TakeAlone,
    advance,
    step,
)

QUARANTINED = Record(QUARANTINE_OWNERS)
ALONE = Suspects("a")
FAILURE = Failure("it broke", RETRY_MS, 1)
BROKEN = Suspects(failures={"a": FAILURE}, num_failures=1)
LAST_PASS = Suspects("a", EXCLUSIVE_PASSES - 1)
SHARED = Suspects("a", EXCLUSIVE_PASSES)


@pytest.mark.parametrize(
    ("before", "observation", "after", "actions"),
    [
        (Suspects(), Opened({"a": Record()}), Suspects(), ()),
        (Suspects(), Opened({"a": Record(1)}), Suspects(), ()),
        (Suspects(), Opened({}, ("a", "b")), Suspects(), (TakeAlone("a"),)),
        (Suspects(), Opened({"b": Record()}, ("a",)), Suspects(), (Look(),)),
        (Suspects(), Opened({"a": QUARANTINED}), ALONE, ()),
        (ALONE, Opened({}, ("b",)), ALONE, ()),
        (SHARED, Opened({}, ("b",)), SHARED, (TakeAlone("b"),)),
        (SHARED, Opened({"b": QUARANTINED}), Suspects("b"), ()),
        (BROKEN, Opened({"a": Record(1, 1)}), BROKEN, ()),
        (BROKEN, Opened({"a": Record()}), Suspects(num_failures=1), ()),
        (BROKEN, Opened({"a": QUARANTINED}), msgspec.structs.replace(BROKEN, quarantined="a"), ()),
        (Suspects(), Failed("a", "it broke", 0), BROKEN, ()),
        (ALONE, Failed("a", "it broke", 0), BROKEN, (Look(),)),
        (ALONE, Failed("b", "no", 0, is_counted=False), Suspects("a", 0, {"b": Failure("no", RETRY_MS, 0)}), ()),
        (BROKEN, Failed("a", "no", 1, is_counted=False), Suspects("", 0, {"a": Failure("no", RETRY_MS + 1, 1)}, 1), ()),
        (ALONE, Ran("b"), ALONE, ()),
        (ALONE, Ran("a"), Suspects("a", 1), ()),
        (LAST_PASS, Ran("a"), SHARED, (Look(),)),
        (SHARED, Ran("a"), Suspects("a", EXCLUSIVE_PASSES + 1), ()),
        (ALONE, Committed("a", QUARANTINED), ALONE, (Look(),)),
        (ALONE, Committed("b", QUARANTINED), ALONE, (Look(),)),
        (ALONE, Committed("b", Record()), ALONE, ()),
        (ALONE, Committed("a", Record()), Suspects(), (Look(),)),
        (BROKEN, Committed("a", Record(1, 1)), BROKEN, ()),
        (BROKEN, Committed("a", Record()), Suspects(num_failures=1), ()),
        (ALONE, Released({"b"}), ALONE, ()),
        (ALONE, Released({"a", "b"}), Suspects(), (Look(),)),
        (BROKEN, Released({"a"}), BROKEN, ()),
        (BROKEN, Released({"a"}, is_for_good=True), Suspects(num_failures=1), ()),
        (Suspects(), Released(()), Suspects(), ()),
    ],
)
def test_each_event_has_its_answer(
    before: Suspects, observation: quarantine.Observation, after: Suspects, actions: tuple[quarantine.Action, ...]
) -> None:
    """The table of events: what is remembered after each, and what is done."""
    assert step(before, observation) == (after, actions)


@given(
    st.builds(Record, st.integers(0, 5), st.integers(0, 5)),
    *[st.booleans()] * 5,
)
def test_getting_further_clears_a_session_and_nothing_else_does(
    record: Record, has_output: bool, has_read: bool, is_idle: bool, is_caught_up: bool, is_closed: bool
) -> None:
    """Law: output or a whole entry counts; in quarantine that clears one entry, and only the end of the log all."""
    achieved = advance(
        record,
        has_output=has_output,
        has_read=has_read,
        is_idle=is_idle,
        is_caught_up=is_caught_up,
        is_closed=is_closed,
    )
    is_something = has_output or (is_idle and has_read)
    is_all = is_caught_up and is_idle
    assert record.after(achieved).failed_owners in (0, record.failed_owners)
    assert (achieved == "") == (record.is_clear or not (is_something or is_all))
    if achieved == "event":
        assert record.is_quarantined
        assert not is_all
        assert record.after(achieved) == Record(record.failed_owners)


def test_only_an_exclusive_session_keeps_others_from_work() -> None:
    """A worker that has nobody in quarantine works on everything."""
    assert (Suspects().exclusive, ALONE.exclusive, LAST_PASS.exclusive, SHARED.exclusive) == ("", "a", "a", "")


def test_a_failure_is_told_until_the_session_gets_further_and_it_waits() -> None:
    """However often a claim is lost, the next one carries the same number; the session rests meanwhile."""
    assert (BROKEN.knows("a"), ALONE.knows("a"), ALONE.knows("b")) == (True, True, False)
    assert (BROKEN.failure_number("a"), BROKEN.failure_number("b")) == (1, 0)
    assert [BROKEN.can_take("a", now_ms) for now_ms in (0, RETRY_MS - 1, RETRY_MS)] == [False, False, True]
    assert BROKEN.can_take("b", 0)


class Saved:
    """What Redis keeps of one session, counted as the scripts count."""

    def __init__(self, entries: str) -> None:
        self.entries = entries  # a letter each: "." is translated, "k" kills its worker, "r" raises
        self.read = 0
        self.owner = ""
        self.owners = self.attempts = 0
        self.is_attempt = False
        self.failure = ""
        self.guilty = 0  # failures that nobody but the session can have caused, since it got further
        self.is_poison = False

    @property
    def is_done(self) -> bool:
        """Whether no worker is wanted any more."""
        return self.is_poison or self.read == len(self.entries)

    def open(self, worker: str, dead: Collection[str], failure: str, *, is_alone: bool) -> Record | None:
        """As `open.lua`; None for a session that is withheld."""
        failed, attempts = self.owners, self.attempts
        if self.owner and self.owner not in dead:
            failed, attempts = failed - 1, attempts - self.is_attempt
        if failure and failure != self.failure:
            failed, attempts = failed + 1, attempts + 1
        self.failure = failure
        is_attempt = failed >= QUARANTINE_OWNERS
        if is_attempt and not is_alone:
            self.owner, self.owners, self.attempts = "", failed, attempts
            return None
        self.owner, self.owners, self.is_attempt = worker, failed + 1, is_attempt
        self.attempts = attempts + is_attempt
        return Record(failed, attempts)

    def commit(self, achieved: quarantine.Advance, num_read: int) -> None:
        """As `commit.lua`."""
        self.read += num_read
        if achieved == "further":
            self.owners, self.attempts, self.is_attempt = 1, 0, False
        elif achieved == "event":
            self.attempts = 1
        if achieved:
            self.guilty = 0


class Died(Exception):
    """The worker is gone."""


class Worker:
    """A worker that reads what it may; whatever it dies of is up to the entries, and to the test."""

    def __init__(self, name: str, world: "World") -> None:
        self.name = name
        self.world = world
        self.suspects = Suspects()
        self.held: dict[str, Record] = {}

    def tell(self, observation: quarantine.Observation) -> None:
        """Steps, and does at once what is to be done."""
        self.suspects, actions = step(self.suspects, observation)
        for action in actions:
            if isinstance(action, TakeAlone):
                assert not self.suspects.exclusive
                self.open([action.name], is_alone=True)

    def open(self, names: list[str], *, is_alone: bool = False, is_reply_lost: bool = False) -> None:
        """Claims the sessions."""
        worker, number = self.name, self.suspects.failure_number
        answers = {
            name: self.world.saved[name].open(
                worker, self.world.dead, f"{worker}:{number(name)}" if number(name) else "", is_alone=is_alone
            )
            for name in names
        }
        if is_reply_lost:
            return
        taken = {name: record for name, record in answers.items() if record is not None}
        self.held |= taken
        self.tell(Opened(taken, tuple(name for name, record in answers.items() if record is None)))

    def claim(self, *, is_reply_lost: bool = False) -> None:
        """Takes what it may."""
        if self.suspects.exclusive:
            return
        names = [
            name
            for name, saved in self.world.saved.items()
            if name not in self.held and not saved.is_done and self.suspects.can_take(name, self.world.now_ms)
        ]
        self.open(names, is_reply_lost=is_reply_lost)
        for name, record in list(self.held.items()):
            if record.is_poison:
                assert self.world.saved[name].guilty >= MAX_ATTEMPTS
                self.world.saved[name].is_poison = True
                self.tell(Committed(name, Record()))
                del self.held[name]

    def work(self, name: str) -> None:
        """Reads a page, runs a pass and commits."""
        saved, record = self.world.saved[name], self.held[name]
        page = saved.entries[saved.read :][: 1 if record.is_quarantined else 2]
        if "k" in page:
            raise Died
        if "r" in page:
            saved.guilty += 1
            del self.held[name]
            self.tell(Failed(name, "it raised", self.world.now_ms))
            return
        self.tell(Ran(name))
        is_end = saved.read + len(page) == len(saved.entries)
        achieved = advance(
            record, has_output=bool(page), has_read=bool(page), is_idle=True, is_caught_up=is_end, is_closed=False
        )
        saved.commit(achieved, len(page))
        self.held[name] = record.after(achieved)
        self.tell(Committed(name, self.held[name]))
        if is_end:
            del self.held[name]
            self.tell(Released({name}))


class World:
    """Sessions, and one worker after the other."""

    def __init__(self, logs: list[str]) -> None:
        self.saved = {f"s{i}": Saved(log) for i, log in enumerate(logs)}
        self.dead: set[str] = set()
        self.now_ms = 0
        self.worker = Worker("w0", self)

    @property
    def is_done(self) -> bool:
        """Whether all sessions have ended, well or badly."""
        return all(saved.is_done for saved in self.saved.values())

    def die(self) -> None:
        """The worker is gone, and another comes."""
        exclusive = self.worker.suspects.exclusive
        if exclusive:
            self.saved[exclusive].guilty += 1
        self.dead.add(self.worker.name)
        self.worker = Worker(f"w{len(self.dead)}", self)

    def move(self, move: str) -> None:
        """Something happens: a claim whose reply is lost, a death, or nothing but work on some of the sessions."""
        self.now_ms += RETRY_MS
        if move == "lost":
            self.worker.claim(is_reply_lost=True)
            return
        self.worker.claim()
        if move == "die":
            self.die()
            return
        exclusive = self.worker.suspects.exclusive
        for name in [exclusive] if exclusive else list(self.worker.held):
            try:
                self.worker.work(name)
            except Died:
                self.die()
                return


LOGS = st.lists(st.text(st.sampled_from("....kr"), min_size=1, max_size=5), min_size=1, max_size=4)


@given(LOGS, st.lists(st.sampled_from(["work", "work", "die", "lost"]), max_size=30))
def test_a_session_is_ended_for_its_own_failures_and_for_no_others(logs: list[str], moves: list[str]) -> None:
    """Law: whatever dies or gets lost, a session ends as poison only after MAX_ATTEMPTS failures that nothing else can
    have caused (asserted where it ends); and once the deaths by chance are over, all the others come to their end.
    """
    world = World(logs)
    for move in moves:
        world.move(move)
    is_poison = {name for name, saved in world.saved.items() if saved.is_poison}
    for _ in range(40 * len(logs) + 40):
        if world.is_done:
            break
        world.move("work")
    assert world.is_done
    for name, saved in world.saved.items():
        assert saved.is_poison == (name in is_poison or not set(saved.entries) <= {"."})
    assert not world.worker.suspects.failures
    assert not world.worker.suspects.quarantined
