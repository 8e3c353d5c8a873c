"""Rules for sessions that keep killing their workers: when to run one alone, when to clear it, when to end it.

An owner fails at a session when it dies before the session advances; an owner that lives, or gives the session back,
does not. Redis counts both numbers of a `Record` with the session's state (`worker/io/lua/open.lua` and `commit.lua`).
This module decides what they mean. It does no I/O.

    QUARANTINE_OWNERS failed                only a worker that works on nothing else takes the session, and reads one
                                            entry at a time
    MAX_ATTEMPTS failed while it ran alone  the session ends with an error, and its current entry becomes a dead letter
    the session advances                    the record is cleared

When a worker dies, all its sessions lose their owner; only a session that ran alone is charged with an attempt. An
exception is charged at once, because the worker knows which session raised it.
"""

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

QUARANTINE_OWNERS = 2
MAX_ATTEMPTS = 3
EXCLUSIVE_PASSES = 64
"""After this many passes, a quarantined session shares its worker again, so that others need not wait for it."""
RETRY_MS = 10_000
"""Pause before this worker retries a session at which it has failed itself."""

Advance: TypeAlias = Literal["", "event", "further"]
"""What a commit clears of the record: nothing, the attempts at one entry of a quarantined session, or everything."""


class Record(msgspec.Struct, frozen=True):
    """The failures counted against a session."""

    failed_owners: int = 0  # in a row, since the session last advanced
    failed_attempts: int = 0  # of these, while the session ran alone

    @property
    def is_clear(self) -> bool:
        """Whether no owner has failed since the session last advanced."""
        return self.failed_owners == 0

    @property
    def is_quarantined(self) -> bool:
        """Whether the session runs alone, one entry at a time."""
        return self.failed_owners >= QUARANTINE_OWNERS

    @property
    def is_poison(self) -> bool:
        """Whether the session ends instead of getting another attempt."""
        return self.failed_attempts >= MAX_ATTEMPTS

    def after(self, advance: Advance) -> "Record":
        """Return the record after a commit with this advance."""
        match advance:
            case "further":
                return Record()
            case "event":
                return replace(self, failed_attempts=0)
            case "":
                return self
        assert_never(advance)


def advance(
    record: Record, *, has_output: bool, has_read: bool, is_idle: bool, is_caught_up: bool, is_closed: bool
) -> Advance:
    """Return what a commit clears of the record.

    `has_output`: the commit publishes more than errors, which lead to no work. `has_read`: the commit moves the cursor.
    `is_idle`: the session wants no pass. `is_caught_up`: its log has been read to the end. An entry is done once it
    leads to output or to no work; a quarantined session is clear only once all entries are done.

    >>> at_work = {"has_read": True, "is_idle": False, "is_caught_up": False, "is_closed": False}
    >>> [advance(Record(owners), has_output=True, **at_work) for owners in range(4)]
    ['', 'further', 'event', 'event']
    """
    if record.is_clear:
        return ""
    if is_caught_up and is_idle:
        return "further"
    if has_output or (is_idle and has_read):
        return "event" if record.is_quarantined and not is_closed else "further"
    return ""


class Failure(msgspec.Struct, frozen=True):
    """The last time this worker failed on a session that has made no progress since."""

    cause: str
    retry_ms: int  # when the session may be taken again
    number: int  # of this worker's failures: Redis counts each number once; 0: not to be counted


class Suspects(msgspec.Struct, frozen=True):
    """The sessions of one worker on which it, or several owners before it, failed."""

    quarantined: str = ""  # the quarantined session taken last, while it is held and has not advanced
    num_passes: int = 0  # of the quarantined session
    failures: Mapping[str, Failure] = {}
    num_failures: int = 0

    @property
    def exclusive(self) -> str:
        """The session that must run alone, so that it is known to blame if the worker dies; "" for none."""
        return self.quarantined if self.num_passes < EXCLUSIVE_PASSES else ""

    def knows(self, name: str) -> bool:
        """Tell whether the session is among the suspects."""
        return name == self.quarantined or name in self.failures

    def can_take(self, name: str, now_ms: int) -> bool:
        """Tell whether the worker's last failure at the session, if any, is long enough ago."""
        failure = self.failures.get(name)
        return failure is None or now_ms >= failure.retry_ms

    def failure_number(self, name: str) -> int:
        """Return the number of the failure that a claim of the session reports to Redis; 0 for none."""
        failure = self.failures.get(name)
        return failure.number if failure else 0


class Opened(msgspec.Struct, frozen=True):
    """The answer to a claim: records of the `taken` sessions, names of the `withheld` ones, which must run alone."""

    taken: Mapping[str, Record]
    withheld: tuple[str, ...] = ()


class Failed(msgspec.Struct, frozen=True):
    """The worker has failed at the session and no longer holds it."""

    name: str
    cause: str
    now_ms: int
    is_counted: bool = True  # False: the session is not the cause


class Ran(msgspec.Struct, frozen=True):
    """A pass over the session has ended."""

    name: str


class Committed(msgspec.Struct, frozen=True):
    """A commit of the session is in Redis; `record` is the new record."""

    name: str
    record: Record


class Released(msgspec.Struct, frozen=True):
    """The worker no longer holds these sessions; `is_for_good`: nor may it take them again."""

    names: Collection[str]
    is_for_good: bool = False


Observation: TypeAlias = Opened | Failed | Ran | Committed | Released


class TakeAlone(msgspec.Struct, frozen=True):
    """Claim this session again, between two passes, to run it alone."""

    name: str


class Look(msgspec.Struct, frozen=True):
    """Check again for sessions to take and for the quarantined session's next entry."""


Action: TypeAlias = TakeAlone | Look
Outcome: TypeAlias = tuple[Suspects, tuple[Action, ...]]


def step(suspects: Suspects, observation: Observation) -> Outcome:
    """Return the suspects after the observation, and the worker's next actions."""
    match observation:
        case Opened():
            return _opened(suspects, observation)
        case Failed(name=name):
            num_failures = suspects.num_failures + observation.is_counted
            number = num_failures if observation.is_counted else suspects.failure_number(name)
            failure = Failure(observation.cause, observation.now_ms + RETRY_MS, number)
            failed = replace(suspects, failures={**suspects.failures, name: failure}, num_failures=num_failures)
            return _released(failed, name)
        case Ran(name=name):
            if name != suspects.quarantined:
                return suspects, ()
            ran = replace(suspects, num_passes=suspects.num_passes + 1)
            return ran, (Look(),) if ran.num_passes == EXCLUSIVE_PASSES else ()
        case Committed(name=name, record=record):
            if record.is_quarantined:
                return suspects, (Look(),)  # for its next entry
            return _released(_forgiven(suspects, {name}), name) if record.is_clear else (suspects, ())
        case Released(names=names):
            kept = _forgiven(suspects, names) if observation.is_for_good else suspects
            return _released(kept, suspects.quarantined) if suspects.quarantined in names else (kept, ())
    assert_never(observation)


def _opened(suspects: Suspects, observation: Opened) -> Outcome:
    suspects = _forgiven(suspects, {name for name, record in observation.taken.items() if record.is_clear})
    for name, record in observation.taken.items():
        if record.is_quarantined:
            return replace(suspects, quarantined=name, num_passes=0), ()
    if not observation.withheld or suspects.exclusive:
        return suspects, ()
    # The sessions taken in the same claim run first.
    return suspects, (Look(),) if observation.taken else (TakeAlone(observation.withheld[0]),)


def _released(suspects: Suspects, name: str) -> Outcome:
    if not name or name != suspects.quarantined:
        return suspects, ()
    return replace(suspects, quarantined="", num_passes=0), (Look(),)


def _forgiven(suspects: Suspects, names: Collection[str]) -> Suspects:
    if suspects.failures.keys().isdisjoint(names):
        return suspects
    return replace(suspects, failures={name: f for name, f in suspects.failures.items() if name not in names})
