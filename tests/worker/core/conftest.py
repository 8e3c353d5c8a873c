"""Strategies for the laws of the core: options, models, source words."""

from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import Adaptive, AlignAtt, Limits, LocalAgreement, Sampling, Session, WaitK
from tests.worker.fakes import CONTIGUOUS, LATIN, PIECES, PROMPT, SPECIAL, FakeModel, FakeVocabulary

ALL = tuple(range(SPECIAL, SPECIAL + len(PIECES)))
CONTINUATIONS = tuple(SPECIAL + i for i, piece in enumerate(PIECES) if piece in (b"b", b"co", b"e"))
SPACES = tuple(SPECIAL + i for i, piece in enumerate(PIECES) if piece.isspace())

WORDS = st.lists(
    st.sampled_from(["the", "cat", "sat.", "on", "Mr.", "世", "う。", "x", "🎉", "👩\u200d👧x🎉."]), max_size=9
)
MODELS = st.builds(
    FakeModel,
    seed=st.integers(0, 10_000),
    tokens=st.sampled_from([ALL, ALL, LATIN, LATIN, CONTINUATIONS, SPACES, (*SPACES, *LATIN)]),
    eos=st.sampled_from([0.0, 0.05, 0.2, 0.6]),
    steadiness=st.sampled_from([0.0, 0.6, 0.95]),
)
VOCABULARIES = st.builds(
    FakeVocabulary,
    st.builds(
        replace,
        st.sampled_from([PROMPT, CONTIGUOUS]),
        max_target_tokens=st.sampled_from([1, 2, 9, 40, 100]),
        is_translation=st.booleans(),
        source_language=st.sampled_from([None, "en"]),
    ),
    hides_first_space=st.booleans(),
)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7]),
    repetition_penalty=st.sampled_from([None, 1.3]),
    repetition_context_size=st.integers(0, 5),
    seed=st.integers(0, 3),
)
POLICIES = st.one_of(
    st.builds(WaitK, k=st.integers(1, 12)),
    st.builds(WaitK, k=st.integers(1, 5), catchup=st.sampled_from([-1.0, -0.3, 0.2, 0.9])),
    st.builds(
        Adaptive, min_k=st.integers(1, 3), max_k=st.integers(3, 6), threshold=st.sampled_from([0.0, 0.4, 0.8, 1.0])
    ),
    st.builds(LocalAgreement, k=st.integers(1, 4), max_ahead_tokens=st.sampled_from([1, 2, 5, 16])),
    st.builds(AlignAtt, k=st.integers(1, 3), frame_words=st.integers(1, 4)),
)
SESSIONS = st.builds(
    Session,
    mode=st.sampled_from(["streaming", "streaming", "streaming", "completion"]),
    policy=POLICIES,
    sampling=SAMPLINGS,
    limits=st.builds(
        Limits,
        max_new_words=st.sampled_from([None, None, 1, 4]),
        max_tokens_per_word=st.sampled_from([1, 2, 3, 50]),
    ),
)
QUALITIES = st.sampled_from([None, 0.0, 0.5, 0.9, 1.0])  # of drafts, FakeRunner's
for kind, strategy in {FakeModel: MODELS, FakeVocabulary: VOCABULARIES, Session: SESSIONS}.items():
    st.register_type_strategy(kind, strategy)
