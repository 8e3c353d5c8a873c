"""What there is to know about a session."""

import msgspec

from protocol import Session, SessionPhase
from worker.core.drafting import Drafting
from worker.core.rows import Lane
from worker.core.segment import Segment


class State(msgspec.Struct, frozen=True):
    """All there is to know about a session; a pure function of its log, its model and its options, but for times and
    drafts.
    """

    number: int  # of this session within the worker; names its lanes
    phase: SessionPhase = SessionPhase.ABSENT
    session: Session = Session()
    seq: int = 0  # target events so far
    source_seq: int | None = None  # the producer's last number
    segments: tuple[Segment, ...] = ()  # unfinished ones, the first is being translated
    num_segments: int = 0
    created_ms: int = 0
    active_ms: int = 0
    served_ms: int = 0  # when its last pass ended
    source_words: int = 0
    target_words: int = 0
    duplicates: int = 0
    refused: int = 0  # source entries turned away for lack of room
    drafting: Drafting = Drafting()
    close_reason: str = "closed"


def lane_of(state: State) -> Lane | None:
    """The dual cache that the session's rows go to, that of its first segment; None: it needs none."""
    return state.segments[0].lane if state.segments else None


def backlog_words(state: State) -> int:
    """Source words that have arrived and have not been read yet."""
    return sum(
        sum(bound > segment.num_computed_source for bound in segment.bounds[1 : segment.num_words + 1])
        for segment in state.segments
    )


def deadline_ms(state: State) -> int | None:
    """When the session expires if nothing happens; None: never."""
    return state.active_ms + state.session.limits.idle_timeout_ms if state.phase is SessionPhase.OPEN else None
