"""Strategies for every event, registered by type: a law asks for `st.from_type(SessionCreate)` and gets valid ones."""

from typing import Any

from hypothesis import strategies as st
from msgspec import UNSET, Struct

from protocol import events, options, policies
from protocol.limits import (
    MAX_LANGUAGE_CHARS,
    MAX_METADATA_ENTRIES,
    MAX_METADATA_KEY_CHARS,
    MAX_METADATA_VALUE_CHARS,
    MAX_PROMPT_CHARS,
    MAX_SEED,
    MAX_SEQ,
    MAX_TEXT_CHARS,
)

COUNT = st.integers(0, 2**62)
POSITIVE = st.integers(1, 2**62)
TEXT = st.text(max_size=40)
CLIENT_SEQ = st.none() | st.integers(0, MAX_SEQ)
TARGET_SEQ = st.integers(1, MAX_SEQ)

SESSION_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "source_language": st.text(min_size=1, max_size=MAX_LANGUAGE_CHARS),
    "target_language": st.none() | st.text(min_size=1, max_size=MAX_LANGUAGE_CHARS),
    "prompt": st.none() | st.text(max_size=MAX_PROMPT_CHARS),
    "mode": st.sampled_from(["streaming", "completion"]),
    "segmentation": st.sampled_from(["manual", "sentence"]),
    "policy": st.one_of(
        st.builds(policies.WaitK, k=st.integers(1, 1000), catchup=st.floats(-1, 0.9)),
        st.builds(
            policies.Adaptive, min_k=st.integers(1, 500), max_k=st.integers(500, 1000), threshold=st.floats(0, 1)
        ),
        st.builds(policies.LocalAgreement, k=st.integers(1, 1000), max_ahead_tokens=st.integers(1, 1000)),
        st.builds(policies.AlignAtt, k=st.integers(1, 1000), frame_words=st.integers(1, 1000)),
    ),
    "sampling": st.builds(
        options.Sampling,
        temperature=st.floats(0, 10),
        top_p=st.floats(0, 1, exclude_min=True),
        repetition_penalty=st.none() | st.floats(0, 100, exclude_min=True),
        repetition_context_size=st.integers(0, 10_000),
        seed=st.integers(0, MAX_SEED),
    ),
    "limits": st.builds(
        options.Limits,
        max_new_words=st.none() | st.integers(1, 1_000_000),
        max_tokens_per_word=st.integers(1, 1000),
        max_backlog_words=st.integers(1, 1_000_000),
        idle_timeout_ms=st.integers(1000, 86_400_000),
    ),
    "speculation": st.builds(options.Speculation, enabled=st.booleans(), max_draft_tokens=st.integers(1, 64)),
    "metadata": st.dictionaries(
        st.text(min_size=1, max_size=MAX_METADATA_KEY_CHARS),
        st.text(max_size=MAX_METADATA_VALUE_CHARS),
        max_size=MAX_METADATA_ENTRIES,
    ),
}
SESSION = st.builds(options.Session, **SESSION_FIELDS)
PATCH = st.builds(options.SessionPatch, **{name: st.just(UNSET) | values for name, values in SESSION_FIELDS.items()})

DELTA = {
    "segment": COUNT,
    "index": COUNT,
    "word": TEXT,
    "text": TEXT,
    "tokens": st.lists(COUNT, max_size=8).map(tuple),
    "source_words_read": COUNT,
    "elapsed_ms": COUNT,
    "delay_ms": COUNT,
}
DONE = {
    "segment": COUNT,
    "text": TEXT,
    "source_words": COUNT,
    "target_words": COUNT,
    "finish_reason": st.sampled_from(["stop", "length", "empty"]),
    "average_lagging": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "elapsed_ms": COUNT,
}
ERROR = {
    "code": TEXT,
    "message": TEXT,
    "param": st.none() | TEXT,
    "source_id": st.none() | TEXT,
    "expected_seq": st.none() | COUNT,
}
CLOSED = {"reason": st.sampled_from(["closed", "idle", "error"]), "source_words": COUNT, "target_words": COUNT}
CONFIGURE = {
    "max_batch_size": st.none() | POSITIVE,
    "batch_timeout_ms": st.none() | st.integers(0, 10_000),
    "max_sessions": st.none() | POSITIVE,
    "use_speculative": st.none() | st.booleans(),
    "max_draft_tokens": st.none() | st.integers(1, 64),
}
STATS = {
    **dict.fromkeys(("worker", "model"), TEXT),
    **dict.fromkeys(("sessions", "source_words", "target_words", "ticks", "forwards", "tokens"), COUNT),
    **dict.fromkeys(("kv_bytes", "uptime_ms", "accepted_drafts", "proposed_drafts", "drafted_rows"), COUNT),
    "rows_per_tick": st.none() | st.floats(0, 1e6),
}

FIELDS: dict[type[Struct], dict[str, st.SearchStrategy[Any]]] = {
    events.SessionCreate: {"seq": CLIENT_SEQ, "session": SESSION},
    events.SessionUpdate: {"seq": CLIENT_SEQ, "session": PATCH},
    events.SessionClose: {"seq": CLIENT_SEQ},
    events.InputTextAppend: {"seq": CLIENT_SEQ, "text": st.text(max_size=MAX_TEXT_CHARS)},
    events.InputTextFinalize: {"seq": CLIENT_SEQ},
    events.SessionCreated: {"seq": TARGET_SEQ, "version": POSITIVE, "session": SESSION, "model": TEXT},
    events.SessionUpdated: {"seq": TARGET_SEQ, "session": SESSION},
    events.SessionClosed: {"seq": TARGET_SEQ, **CLOSED},
    events.OutputTextDelta: {"seq": TARGET_SEQ, **DELTA},
    events.SegmentDone: {"seq": TARGET_SEQ, **DONE},
    events.Error: {"seq": TARGET_SEQ, **ERROR},
    events.WorkerConfigure: CONFIGURE,
    events.WorkerStats: STATS,
}

for kind, fields in FIELDS.items():
    st.register_type_strategy(kind, st.builds(kind, **fields))
st.register_type_strategy(options.Session, SESSION)
st.register_type_strategy(options.SessionPatch, PATCH)
