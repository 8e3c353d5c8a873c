"""All metrics of a worker, in base units, without labels that grow with the number of sessions."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from protocol import Error, OutputTextDelta, SegmentDone, ServerEvent

_DELAYS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TICKS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
_WORDS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)


class Metrics:
    """The metrics of one worker and the registry that holds them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        gauge, counter = self._gauge, self._counter
        self.sessions = gauge("decalage_sessions", "Open sessions of this worker.")
        self.shards = gauge("decalage_shards", "Shards whose lease this worker holds.")
        self.kv_bytes = gauge("decalage_kv_bytes", "Bytes of all keys and values in the dual caches.")
        self.queue_age = gauge("decalage_queue_age_seconds", "Age of the oldest source word that could be read now.")
        self.source_words = counter("decalage_source_words", "Source words accepted.")
        self.target_words = counter("decalage_target_words", "Target words published.")
        self.segments = counter("decalage_segments", "Segments finished.")
        self.duplicates = counter("decalage_duplicates", "Source events ignored because their seq was there already.")
        self.fenced = counter("decalage_fenced_commits", "Commits and takeovers refused: the session is another's.")
        self.suppressed = counter("decalage_suppressed_events", "Target events sent again that were there already.")
        self.dead_letters = counter("decalage_dead_letters", "Events at which three owners failed, put aside.")
        self.forwards = counter("decalage_forwards", "Rows computed: a pass over n sessions counts n.")
        self.passes = counter("decalage_passes", "Forward passes, each over one row or many.")
        self.padding = counter("decalage_padding_tokens", "Cells of attention computed only to make rows even.")
        self.tokens = counter("decalage_tokens", "Tokens read and written, drafts included.")
        self.engine_up = gauge("decalage_engine_up", "1 while the engine's thread lives.")
        self.failed_passes = counter("decalage_failed_passes", "Passes that failed; their rows run again one by one.")
        self.lost_lanes = counter("decalage_lost_lanes", "Lanes evicted for others, or lost in a pass that failed.")
        self.shared_tokens = counter(
            "decalage_shared_tokens", "Source tokens of prompts that were copied from a lane that begins alike."
        )
        self.deferred_rows = counter(
            "decalage_deferred_rows", "Rows put off because others filled the memory for lanes."
        )
        self.rebuilt = counter("decalage_rebuilt_tokens", "Tokens fed again because the lane that held them was gone.")
        self.replayed_words = counter(
            "decalage_replayed_words", "Published words of unfinished segments in sessions taken over."
        )
        self.drafts_proposed = counter("decalage_drafts_proposed", "Draft tokens fed.")
        self.drafts_accepted = counter("decalage_drafts_accepted", "Draft tokens that came out as guessed.")
        self.drafted_rows = counter("decalage_drafted_rows", "Rows with drafts: proposed ÷ these is a draft's length.")
        self.errors = Counter("decalage_errors", "Error events published, by code.", ["code"], registry=self.registry)
        self._distributions()

    def _distributions(self) -> None:
        histogram = self._histogram
        self.lag = histogram(
            "decalage_lag_words", "Source words read beyond the word written: n read, word t: n - t.", _WORDS
        )
        self.word_delay = histogram(
            "decalage_word_delay_seconds",
            "From the newest source word a target word needed to its publication.",
            _DELAYS_S,
        )
        self.first_word_delay = histogram(
            "decalage_first_word_delay_seconds",
            "From a segment's first source word to its first target word.",
            _DELAYS_S,
        )
        self.tick = histogram("decalage_tick_seconds", "Time of one tick: plan, pass, update.", _TICKS_S)
        self.tick_rows = histogram("decalage_tick_rows", "Sessions served in one tick.", (1, 2, 4, 8, 16, 32, 64, 128))

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def observe(self, event: ServerEvent) -> None:
        """Count a published event."""
        match event:
            case OutputTextDelta():
                self.target_words.inc()
                self.lag.observe(event.source_words_read - event.index)
                self.word_delay.observe(event.delay_ms / 1000)
            case SegmentDone():
                self.segments.inc()
            case Error():
                self.errors.labels(event.code).inc()
            case _:
                pass
