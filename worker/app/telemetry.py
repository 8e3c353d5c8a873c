"""A worker's figures: metrics, the stats stream, and a log line for each session that ends."""

import time
from collections import Counter
from collections.abc import Sequence

import structlog

from protocol import OutputTextDelta, ProtocolError, SessionClosed, WorkerConfigure, WorkerStats, decode_worker, encode
from protocol.keys import EVENT_FIELD, STATS_KEY
from worker.app.engine import Report
from worker.app.handle import SessionHandle
from worker.core.rows import Evicted, Failed, Output, Tokens
from worker.core.segment import rebuilt_tokens
from worker.core.sessions import Update
from worker.core.state import State
from worker.engine.runner import Counters
from worker.io.client import Client
from worker.io.metrics import Metrics
from worker.io.store import Commit

_STATS_ENTRIES = 1_000


class Telemetry:
    """Collects and publishes one worker's figures."""

    def __init__(self, worker: str, model: str, metrics: Metrics) -> None:
        self._worker = worker
        self._model = model
        self._metrics = metrics
        self._log = structlog.get_logger(worker=worker)
        self._started = time.monotonic()
        self._told = 0.0
        self._counters = Counters()
        self._ticks = self._rows = self._source_words = self._target_words = 0
        self.kv_bytes = 0
        self.is_full = False  # rows of the last pass were deferred for lack of room

    def decode_configure(self, data: bytes) -> WorkerConfigure | None:
        """Return the change that an entry of the configure stream asks for; None, and a warning, if it is none."""
        try:
            event = decode_worker(data)
        except ProtocolError as error:
            self._log.warning("bad_configure", code=error.code, error=str(error))
            return None
        return event if isinstance(event, WorkerConfigure) else None

    def record_pass(self, report: Report, num_rows: int) -> None:
        """Add the engine's counters after a pass."""
        old, new = self._counters, report.counters
        metrics = self._metrics
        for counter, number in (
            (metrics.forwards, new.forwards - old.forwards),
            (metrics.passes, new.passes - old.passes),
            (metrics.padding, new.padding_tokens - old.padding_tokens),
            (metrics.tokens, new.source_tokens + new.target_tokens - old.source_tokens - old.target_tokens),
            (metrics.drafts_proposed, new.proposed_drafts - old.proposed_drafts),
            (metrics.drafted_rows, new.drafted_rows - old.drafted_rows),
            (metrics.drafts_accepted, new.accepted_drafts - old.accepted_drafts),
            (metrics.failed_passes, new.failed_passes - old.failed_passes),
            (metrics.lost_lanes, new.lost_lanes - old.lost_lanes),
            (metrics.shared_tokens, new.shared_tokens - old.shared_tokens),
            (metrics.deferred_rows, new.deferred_rows - old.deferred_rows),
        ):
            if number:
                counter.inc(number)
        metrics.kv_bytes.set(report.kv_bytes)
        self.is_full = new.deferred_rows > old.deferred_rows
        self._counters, self.kv_bytes = new, report.kv_bytes
        self._ticks += 1
        self._rows += num_rows

    def evicted(self, outputs: Sequence[Output]) -> None:
        """Log for each reason how many lanes were lost and must be fed again."""
        reasons = Counter(output.reason for output in outputs if isinstance(output, Evicted))
        for reason, num_lanes in reasons.items():
            self._log.warning("lanes_lost", lanes=num_lanes, reason=reason)

    def accepted(self, before: State, after: State) -> None:
        """Count the source words and duplicates that a session has taken from its source."""
        # Pictographs at a sentence's start count until a word shows that it is no row of pictographs to copy.
        num_words = max(0, after.source_words - before.source_words)
        self._source_words += num_words
        self._metrics.source_words.inc(num_words)
        if after.duplicates > before.duplicates:
            self._metrics.duplicates.inc(after.duplicates - before.duplicates)

    def updated(self, update: Update, now_ms: int) -> None:
        """Record the tokens that a row fed again, the delay of a segment's first word, and a failure."""
        if isinstance(update.output, Failed):
            self._log.error("engine_fault", session=update.name, fault=update.output.error)
        if not isinstance(update.output, Tokens):
            return
        segment = update.before.segments.first
        if segment is None:
            return
        self._metrics.rebuilt.inc(rebuilt_tokens(segment, update.row))
        for event in update.events:
            if isinstance(event, OutputTextDelta) and event.index == 0:
                self._metrics.first_word_delay.observe((now_ms - segment.source.arrivals_ms[0]) / 1000)

    def resumed(self, handle: SessionHandle) -> None:
        """Count the replayed words of a session that was taken over, and log it."""
        num_words = len(handle.published)
        self._metrics.replayed_words.inc(num_words)
        self._log.info(
            "session_resumed",
            session=handle.session_id,
            epoch=handle.epoch,
            events=handle.saved.progress.seq,
            words=num_words,
            ms=round((time.monotonic() - handle.opened_s) * 1000, 1),
        )

    def fenced(self, session_id: str) -> None:
        """Count and log that this worker was fenced: another one has claimed the session."""
        self._metrics.fenced.inc()
        self._log.warning("fenced", session=session_id)

    def dead_letter(self, session_id: str, cause: str) -> None:
        """Count and log a dead letter."""
        self._metrics.dead_letters.inc()
        self._log.error("poison_event", session=session_id, cause=cause)

    def published(self, handle: SessionHandle, commit: Commit, *, num_repeated: int) -> None:
        """Count the published events, `num_repeated` of them from an earlier try; log a session that was closed."""
        if num_repeated:
            self._metrics.suppressed.inc(num_repeated)
        for event in commit.events:
            self._metrics.observe(event)
            if isinstance(event, OutputTextDelta):
                self._target_words += 1
            if isinstance(event, SessionClosed):
                self._log.info(
                    "session_closed",
                    session=commit.session_id,
                    reason=event.reason,
                    source_words=event.source_words,
                    target_words=event.target_words,
                    duplicates=handle.state.duplicates,
                    seconds=round(max(0, time.time() - handle.state.created_ms / 1000), 3),
                )

    async def stats(self, redis: Client, num_sessions: int, every_ms: int) -> None:
        """Publish a `worker.stats` event on the stats stream, at most one in `every_ms`."""
        now = time.monotonic()
        if now - self._told < every_ms / 1000:
            return
        self._told = now
        counters = self._counters
        event = WorkerStats(
            worker=self._worker,
            model=self._model,
            sessions=num_sessions,
            source_words=self._source_words,
            target_words=self._target_words,
            ticks=self._ticks,
            forwards=counters.forwards,
            passes=counters.passes,
            padding_tokens=counters.padding_tokens,
            tokens=counters.source_tokens + counters.target_tokens,
            kv_bytes=self.kv_bytes,
            uptime_ms=int((now - self._started) * 1000),
            rows_per_tick=self._rows / self._ticks if self._ticks else None,
            accepted_drafts=counters.accepted_drafts,
            proposed_drafts=counters.proposed_drafts,
            drafted_rows=counters.drafted_rows,
        )
        await redis.ask("XADD", STATS_KEY, "MAXLEN", "~", _STATS_ENTRIES, "*", EVENT_FIELD, encode(event))
