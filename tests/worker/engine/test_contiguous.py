"""A stock model's layout, end to end: streamed decoding is prompting the plain mlx-lm model, word by word."""

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx.utils import tree_map

from protocol import (
    Adaptive,
    AlignAtt,
    InputTextAppend,
    Limits,
    LocalAgreement,
    OutputTextDelta,
    Policy,
    ServerEvent,
    Session,
    SessionClose,
    SessionCreate,
    WaitK,
)
from tests.worker.engine.conftest import chat_tokenizer
from tests.worker.engine.tiny import ROTARY, WINDOWED, build
from worker.core.drafting import Drafting
from worker.core.rows import Failed, Lane, Row
from worker.core.scheduler import Budget
from worker.core.sessions import Sessions, run_pass
from worker.core.state import State
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.speculative.draft_model import DraftModel
from worker.engine.speculative.runner import SpeculativeRunner
from worker.engine.text.card import Card
from worker.engine.text.tokenizer import Vocabulary

LETTERS = "abcdefgh"
V = 258 + len(LETTERS)
LIMITS = Limits(max_new_words=7, max_tokens_per_word=4)
WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), min_size=1, max_size=8)
POLICIES: list[Policy] = [
    WaitK(k=1), WaitK(k=3), WaitK(k=2, catchup=0.4), Adaptive(min_k=1, max_k=3, threshold=0.02),
    LocalAgreement(k=2, max_ahead_tokens=6), AlignAtt(k=1, frame_words=1),
]  # fmt: skip
LAW = settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])


class Letters(Vocabulary):
    """A chat model that writes words of a few letters."""

    def __init__(self, card: Card, max_positions: int = 512) -> None:
        super().__init__(chat_tokenizer(starts=LETTERS), card, max_positions=max_positions)
        ids = self.tokenizer.get_vocab()
        self.starts = [*(ids[f"Ġ{char}"] for char in LETTERS), *self.eos_tokens]
        self.written = [*(ids[char] for char in LETTERS), *self.starts]

    def forbidden(self, size: int) -> mx.array:
        """Forbid all other tokens."""
        blocked = np.ones(size, dtype=bool)
        blocked[self.written] = False
        return mx.array(blocked)


VOCABULARY, GROUPED = Letters(Card()), Letters(Card(layout="group"))
EOS = next(iter(VOCABULARY.eos_tokens))


def sensitive(family: str, **changes: Any) -> nn.Module:
    """A random model with weights so large that what it writes depends on every token that it sees."""
    model = build(family, vocab_size=V, num_hidden_layers=2, **changes)
    model.update(tree_map(lambda array: 4 * array if array.ndim > 1 else array, model.parameters()))
    return model


@cache
def model_of(family: str) -> StreamingModel:
    """A random model of that family, to be driven by a runner."""
    return StreamingModel(sensitive(family))


@cache
def runner_of(family: str) -> Runner:
    """A runner of that model; tests free the lanes that they use."""
    return Runner(model_of(family), VOCABULARY)


@cache
def plain_of(family: str) -> nn.Module:
    """The same model as mlx-lm has it."""
    return sensitive(family)


def asked(policy: Policy) -> Session:
    """Options for text that is no translation, so that only the policy decides."""
    return Session(prompt="Say:", policy=policy, limits=LIMITS)


class Talks:
    """Sessions on one engine whose words arrive between passes; `events` by session, `rows` of all passes."""

    def __init__(
        self, engine: Runner | SpeculativeRunner, sessions: Sequence[Session], budget: Budget,
        vocabulary: Vocabulary = VOCABULARY,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.rows: list[Row] = []
        self.sessions = Sessions(vocabulary, "", budget)
        self.events: dict[str, list[ServerEvent]] = {}
        for i, session in enumerate(sessions):
            self.sessions.add(str(i), State(number=1 + i, drafting=Drafting(rate=0.9)))
            self.events[str(i)] = []
            self.say(str(i), SessionCreate(session=session))

    def say(self, name: str, event: InputTextAppend | SessionCreate | SessionClose) -> None:
        """Give the session an event."""
        self.events[name] += self.sessions.step(name, event, now_ms=0)

    def run_pass(self, lost: Sequence[Lane] = ()) -> bool:
        """Run one pass, after the engine has lost some lanes. Tell whether any session wanted one."""
        self.engine.run((), lost)
        updates = run_pass(self.sessions, self.engine, lambda: 0)
        for update in updates or ():
            assert not isinstance(update.output, Failed), update.output
            self.rows.append(update.row)
            self.events[update.name] += update.events
        return bool(updates)

    def finish(self) -> None:
        """Run until nothing is left to do, and free the lanes."""
        for name in self.events:
            self.say(name, SessionClose())
        while self.run_pass():
            pass
        self.sessions.forget_all()
        run_pass(self.sessions, self.engine, lambda: 0)

    def written(self, name: str = "0") -> list[tuple[tuple[int, ...], int]]:
        """The tokens of the session's words, and the source words read for each."""
        return [(e.tokens, e.source_words_read) for e in self.events[name] if isinstance(e, OutputTextDelta)]


def streamed(
    engine: Runner | SpeculativeRunner, policy: Policy, source: Sequence[str], budget: Budget | None = None
) -> Talks:
    """One session, a pass after each word."""
    talks = Talks(engine, [asked(policy)], budget or Budget(min_source_tokens=1))
    for word in source:
        talks.say("0", InputTextAppend(text=word))
        while talks.run_pass():
            pass
    talks.finish()
    return talks


def prompted(family: str, k: int, source: Sequence[str]) -> Iterator[tuple[tuple[int, ...], int]]:
    """Wait-k by asking mlx-lm's model anew for every token: the words read so far, and the answer so far, prefilled."""
    prompt = VOCABULARY.prompt(asked(WaitK(k=k)))
    tokens = [VOCABULARY.encode_word(word, before) for before, word in zip(["", *source], source, strict=False)]
    answer: list[int] = []
    num_words = hold = 0
    while num_words < 7:
        num_read = min(max(k + num_words, hold), len(source))
        read = [token for word in tokens[:num_read] for token in word]
        word: list[int] = []
        while True:
            token = _next(family, [*prompt.source, *read, *prompt.end, *prompt.target, *answer, *word],
                          is_start=bool(answer) and not word)  # fmt: skip
            if token == EOS or (word and token in VOCABULARY.starts):
                break
            word.append(token)
            if len(word) == LIMITS.max_tokens_per_word:
                break
        if word:
            yield tuple(word), num_read
            num_words += 1
        answer += word
        if token == EOS and max(k + num_words, hold) <= num_read:
            hold = num_read + 1
        if token == EOS and num_read == len(source):
            return


def _next(family: str, tokens: list[int], *, is_start: bool) -> int:
    logits: list[float] = plain_of(family)(mx.array([tokens]))[0, -1].tolist()
    allowed = VOCABULARY.starts if is_start else VOCABULARY.written
    return int(max(allowed, key=logits.__getitem__))


@LAW
@given(k=st.integers(1, 9), source=WORDS, max_draft_tokens=st.sampled_from([0, 4]))
def test_streamed_is_prompting_the_plain_model(k: int, source: list[str], max_draft_tokens: int) -> None:
    """Law: token for token, at any k, with and without drafts."""
    budget = Budget(min_source_tokens=1, max_draft_tokens=max_draft_tokens)
    found = streamed(runner_of("qwen2"), WaitK(k=k), source, budget).written()
    assert found == list(prompted("qwen2", k, source))


@pytest.mark.parametrize("family", ROTARY)
def test_streamed_is_prompting_in_every_family(family: str) -> None:
    """Every architecture that can be driven."""
    source = ["the", "cat", "sat", "on", "a", "mat"]
    found = {k: streamed(runner_of(family), WaitK(k=k), source).written() for k in (1, 2, 9)}
    assert found == {k: list(prompted(family, k, source)) for k in found}
    assert any(found.values())


@pytest.mark.parametrize("family", WINDOWED)
def test_an_answer_ends_where_the_sliding_window_would_move(family: str) -> None:
    """A completion fills the window and no more: up to its last token it is what the plain model writes."""
    window, words = 60, ["the", "cat", "sat"]
    vocabulary = Letters(Card(), max_positions=window)
    session = Session(mode="completion", limits=Limits(max_tokens_per_word=64))
    engine = Runner(StreamingModel(sensitive(family, sliding_window=window)), vocabulary)
    talks = Talks(engine, [session], Budget(), vocabulary)
    talks.say("0", InputTextAppend(text=" ".join(words)))
    talks.finish()
    answer = [token for word, _ in talks.written() for token in word]
    prompt = vocabulary.prompt(session).in_layout()
    source = [vocabulary.encode_word(word, before) for before, word in zip(["", *words], words, strict=False)]
    read = [*prompt.source, *chain(*source), *prompt.target]
    assert len(read) + len(answer) in (window - 1, window)  # a last token may begin a word that has no room
    plain = sensitive(family, sliding_window=window)
    for i, token in enumerate(answer):
        logits = plain(mx.array([[*read, *answer[:i]]]))[0, -1]
        assert float(logits[token]) == float(mx.max(logits[mx.array(vocabulary.written)]))


@LAW
@given(
    texts=st.lists(WORDS, min_size=2, max_size=4),
    policies=st.lists(st.sampled_from(POLICIES), min_size=4, max_size=4),
    seed=st.integers(0, 99),
    chunk=st.sampled_from([5, 512]),
)
def test_batched_is_alone(texts: list[list[str]], policies: list[Policy], seed: int, chunk: int) -> None:
    """Law: every policy; whatever shares its passes, and whenever its lane is lost, a session's words are its own."""
    budget, dice = Budget(min_source_tokens=1, max_source_tokens=chunk), random.Random(seed)
    talks = Talks(runner_of("qwen2"), [asked(policy) for policy in policies[: len(texts)]], budget)
    left: Mapping[str, list[str]] = {str(i): list(text) for i, text in enumerate(texts)}
    while any(left.values()):
        name = dice.choice([name for name, text in left.items() if text])
        talks.say(name, InputTextAppend(text=left[name].pop(0)))
        for _ in range(dice.randrange(3)):
            talks.run_pass(lost=[(1 + dice.randrange(4), 0)] if dice.random() < 0.3 else [])
    talks.finish()
    for i, (text, policy) in enumerate(zip(texts, policies, strict=False)):
        assert talks.written(str(i)) == streamed(runner_of("qwen2"), policy, text).written()
    talks.engine.check_invariants()  # type: ignore[union-attr]  # a Runner


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_draft_model_changes_nothing(policy: Policy) -> None:
    """It keeps up with lanes whose target moves."""
    source = ["the", "cat", "sat", "on", "a", "mat"]
    drafter = DraftModel(Runner(model_of("llama"), VOCABULARY), VOCABULARY.eos_tokens)
    engine = SpeculativeRunner(runner_of("qwen2"), drafter)
    found = streamed(engine, policy, source, Budget(min_source_tokens=1, has_drafter=True))
    assert found.written() == streamed(runner_of("qwen2"), policy, source).written()


@pytest.mark.parametrize("vocabulary", [VOCABULARY, GROUPED], ids=["contiguous", "group"])
@pytest.mark.parametrize("family", ROTARY)
def test_every_family_takes_every_policy_with_drafts_in_a_batch(family: str, vocabulary: Vocabulary) -> None:
    """All policies share the passes, their drafts with them: each writes what it writes alone and without drafts.
    AlignAtt needs to see the attention, which Gemma 2 computes in its own way.
    """
    policies = [policy for policy in POLICIES if not isinstance(policy, AlignAtt) or family != "gemma2"]
    assert runner_of(family).compatibility.shows_attention == (family != "gemma2")
    text = InputTextAppend(text="the cat sat on a mat")
    found: list[list[tuple[tuple[int, ...], int]]] = []
    for sessions, max_draft_tokens in [(policies, 4), *(([policy], 0) for policy in policies)]:
        budget = Budget(min_source_tokens=1, max_draft_tokens=max_draft_tokens)
        talks = Talks(runner_of(family), [asked(policy) for policy in sessions], budget, vocabulary)
        for name in talks.events:
            talks.say(name, text)
        talks.finish()
        found += [talks.written(name) for name in talks.events]
    assert found[: len(policies)] == found[len(policies) :]


def test_an_instruction_is_computed_once() -> None:
    """Sessions that begin alike share it, as with group positions."""
    before = runner_of("qwen2").counters.shared_tokens
    for _ in range(2):
        streamed(runner_of("qwen2"), WaitK(k=1), ["the", "cat"])
    prefix = len(VOCABULARY.prompt(asked(WaitK(k=1))).source)
    assert runner_of("qwen2").counters.shared_tokens - before >= prefix


def test_a_read_and_the_first_token_of_its_word_are_one_pass() -> None:
    """The pass that reads a word feeds the end of the turn, the header and the target so far, and draws."""
    talks = streamed(runner_of("qwen2"), WaitK(k=2), ["the", "cat", "sat", "on", "a", "mat"], Budget())
    frame = len(VOCABULARY.prompt(asked(WaitK(k=2))).in_layout().target)
    reading = [row for row in talks.rows if row.source]
    assert len(reading) == 5  # the first with two words
    assert all(row.target_start == 0 and len(row.target) >= frame and row.num_samples for row in reading)
    assert all(len(row.target) <= 1 + row.num_drafts for row in talks.rows if not row.source)
