"""`State`, the state of one session, and `Segments`, its queue of unfinished segments."""

from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

from protocol import Numbering, Session, SessionPhase
from worker.core.append_log import Log
from worker.core.drafting import Drafting
from worker.core.rows import Lane
from worker.core.segment import Segment


class Segments(msgspec.Struct, frozen=True):
    """A session's unfinished segments, in order: a queue whose operations cost the same for any length.

    `first` is translated now; `last` takes new words until it ends.
    """

    first: Segment | None = None
    waiting: Log[Segment] = Log()
    newest: Segment | None = None  # where it is not the first

    @classmethod
    def of(cls, segments: Iterable[Segment]) -> "Segments":
        """Return the queue of these segments."""
        queue = cls()
        for segment in segments:
            queue = queue.add(segment)
        return queue

    @property
    def last(self) -> Segment | None:
        """The newest segment."""
        return self.newest or self.first

    def with_first(self, segment: Segment) -> "Segments":
        """Return the queue with another first segment."""
        return replace(self, first=segment)

    def with_last(self, segment: Segment) -> "Segments":
        """Return the queue with another last segment."""
        return replace(self, first=segment) if self.newest is None else replace(self, newest=segment)

    def add(self, segment: Segment) -> "Segments":
        """Return the queue with one more segment at its end."""
        if self.first is None:
            return Segments(segment)
        return Segments(self.first, self.waiting if self.newest is None else self.waiting.append(self.newest), segment)

    def without_first(self) -> "Segments":
        """Return the queue without its first segment."""
        if self.waiting:
            return Segments(self.waiting[0], self.waiting.without(1), self.newest)
        return Segments(self.newest)

    def __iter__(self) -> Iterator[Segment]:
        ends = (segment for segment in (self.newest,) if segment is not None)
        return iter(() if self.first is None else (self.first, *self.waiting, *ends))

    def __len__(self) -> int:
        return (self.first is not None) + len(self.waiting) + (self.newest is not None)


class State(msgspec.Struct, frozen=True):
    """The state of a session; apart from times and drafts it depends only on log, model and options."""

    number: int  # of this session within the worker; names its lanes
    phase: SessionPhase = SessionPhase.ABSENT
    session: Session = Session()
    seq: int = 0  # target events so far
    segment_seq: int = 0  # of these, up to the end of the last finished segment
    numbering: Numbering = Numbering()  # of the source stream
    digests: Log[int] = Log()  # of the newest numbered events, the last one that of `source_seq`; 0: not known
    segments: Segments = Segments()  # unfinished ones
    num_segments: int = 0
    created_ms: int = 0
    active_ms: int = 0
    served_ms: int = 0  # when its last pass ended
    source_words: int = 0
    done_words: int = 0  # of these, in finished segments
    target_words: int = 0
    duplicates: int = 0
    refused: int = 0  # source entries refused for lack of room
    drafting: Drafting = Drafting()
    close_reason: str = "closed"

    @property
    def source_seq(self) -> int | None:
        """The producer's last number."""
        return self.numbering.last


def lane_of(state: State) -> Lane | None:
    """Return the lane of the session's rows, that of its first segment; None: it needs none."""
    return None if state.segments.first is None else state.segments.first.lane


def backlog_words(state: State) -> int:
    """Return how many source words have arrived and are unread."""
    first = state.segments.first
    if first is None:
        return 0
    return state.source_words - state.done_words - first.source.num_words + first.num_unread_words


def deadline_ms(state: State) -> int | None:
    """Return when an untouched session expires; None: never."""
    return state.active_ms + state.session.limits.idle_timeout_ms if state.phase is SessionPhase.OPEN else None
