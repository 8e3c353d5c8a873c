"""Speculative = plain, token for token: whatever a drafter proposes, and however little it is worth."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import (
    Adaptive,
    AlignAtt,
    InputTextAppend,
    LocalAgreement,
    OutputTextDelta,
    Policy,
    Sampling,
    ServerEvent,
    Session,
    SessionClose,
    SessionCreate,
    WaitK,
)
from worker.core.drafting import Drafting
from worker.core.rows import Failed, Lane, Output, Row, SampleSpec, Tokens
from worker.core.scheduler import Budget
from worker.core.sessions import Sessions, run
from worker.core.state import State
from worker.engine.errors import UnsupportedModel
from worker.engine.model import StreamingModel
from worker.engine.runner import Counters, Runner
from worker.engine.speculative.autotune import DraftAutotune
from worker.engine.speculative.draft_model import DraftModel, check_same_tokenizer
from worker.engine.speculative.forced import ForcedDrafter
from worker.engine.speculative.runner import PassRunner, SpeculativeRunner
from worker.engine.text.tokenizer import Vocabulary
from worker.library.running import runner_of

TEXTS = ("The cat sleeps on the old chair.", "We go home now, and he stays.", "Where is the station? I do not know.")
POLICIES: tuple[Policy, ...] = (
    WaitK(k=2),
    WaitK(k=2, catchup=0.5),
    Adaptive(threshold=0.3),
    LocalAgreement(),
    AlignAtt(),
    WaitK(k=50),
)
SAMPLINGS = (
    Sampling(),
    Sampling(temperature=0.8, seed=3),
    Sampling(temperature=0.5, top_p=0.9, repetition_penalty=1.2),
)
Written = dict[str, list[tuple[int, ...]]]


class Talk:
    """Sessions that all have their words, translated by turns and together."""

    def __init__(self, engine: PassRunner, vocabulary: Vocabulary, asked: Sequence[Session]) -> None:
        self.engine = engine
        self.vocabulary = vocabulary
        self.tokens: Written = {}
        self.rows: list[Row] = []
        budget = Budget(max_source_tokens=20, has_drafter=isinstance(engine, SpeculativeRunner))
        self.sessions = Sessions(vocabulary, "", budget)
        for i, session in enumerate(asked):
            name = str(i)
            self.tokens[name] = []
            self.sessions.add(name, State(number=i, drafting=Drafting(rate=0.8)))
            for event in (SessionCreate(session=session), InputTextAppend(text=TEXTS[i % 3]), SessionClose()):
                self._keep(name, self.sessions.step(name, event, now_ms=0))

    def _keep(self, name: str, events: Sequence[ServerEvent]) -> None:
        self.tokens[name] += [event.tokens for event in events if isinstance(event, OutputTextDelta)]

    def run(self) -> Written:
        """The tokens of each session's words."""
        for update in run(self.sessions, self.engine, lambda: 0):
            assert not isinstance(update.output, Failed)
            self.rows.append(update.row)
            self._keep(update.name, update.events)
        return self.tokens


class Knowing:
    """Knows what will be written, and says so at a rate; other tokens it makes up."""

    def __init__(self, tokens: Written, rate: float) -> None:
        self.texts = {(int(name), 0): [token for word in words for token in word] for name, words in tokens.items()}
        self.rate = rate
        self.dice = random.Random(1)

    def propose(self, rows: Sequence[Row]) -> Mapping[Lane, tuple[int, ...]]:
        return {row.lane: self._coming(row) for row in rows if row.max_proposed}

    def _coming(self, row: Row) -> tuple[int, ...]:
        start = row.target_start + len(row.target) - 1  # behind the token that starts every target
        text = self.texts[row.lane][start : start + row.max_proposed]
        return tuple(token if self.dice.random() < self.rate else self.dice.randrange(100) for token in text)

    def drop(self, lanes: object) -> None:
        pass

    def kv_bytes(self) -> int:
        return 0


def french(*options: tuple[Policy, Sampling]) -> list[Session]:
    """Sessions into French."""
    return [Session(target_language="fr", policy=policy, sampling=sampling) for policy, sampling in options]


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(
    options=st.lists(st.tuples(st.sampled_from(POLICIES), st.sampled_from(SAMPLINGS)), min_size=1, max_size=4),
    rate=st.sampled_from([0.0, 0.5, 0.8, 1.0]),
)
def test_any_drafts_give_the_same_tokens(
    small: StreamingModel,
    starter_vocabulary: Vocabulary,
    options: list[tuple[Policy, Sampling]],
    rate: float,
) -> None:
    """Law: each policy, greedy and sampled, in any company, with drafts that come true always, never, or at times."""
    asked, runner = french(*options), runner_of(small, starter_vocabulary)
    plain = Talk(runner, starter_vocabulary, asked).run()
    assert Talk(SpeculativeRunner(runner, Knowing(plain, rate), clock_s=None), starter_vocabulary, asked).run() == plain
    assert runner.num_lanes == 0


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_what_passes_are_said_to_write_is_what_is_written(
    small: StreamingModel, starter_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    """Law: tokens that are taken back when more has been read count for nothing, however many drafts there are. So the
    two ways to run passes are compared by what is left of them: all words, and an end for each session.
    """
    asked, runner = french(*((policy, Sampling()) for policy in POLICIES)), runner_of(small, starter_vocabulary)
    plain = Talk(runner, starter_vocabulary, asked).run()
    said = []

    def learn(known: DraftAutotune, num_tokens: int, _: float) -> DraftAutotune:
        said.append(num_tokens)
        return known

    monkeypatch.setattr("worker.engine.speculative.autotune.learn", learn)
    engine = SpeculativeRunner(runner, Knowing(plain, rate))
    for session in asked:
        said.clear()
        words = Talk(engine, starter_vocabulary, [session]).run()["0"]
        assert sum(said) == sum(map(len, words)) + 1


def test_in_speech_drafts_that_save_nothing_are_left_out(
    starter: StreamingModel, starter_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At wait-3, with every draft right: where a word is written for a word that is read, few of them save a pass, and
    here each costs three tenths of one. Once that is known, the time is that without drafts, within 3 %.
    """
    asked, runner = french((WaitK(k=3), Sampling())), runner_of(starter, starter_vocabulary)
    plain = Talk(runner, starter_vocabulary, asked)
    written, now_s = plain.run(), 0.0
    drafter, run = Knowing(written, 1.0), runner.run

    def propose(rows: Sequence[Row]) -> Mapping[Lane, tuple[int, ...]]:
        nonlocal now_s
        proposed = Knowing.propose(drafter, rows)
        now_s += 0.3 * bool(proposed)
        return proposed

    def timed(rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        nonlocal now_s
        now_s += bool(rows)
        return run(rows, dropped)

    monkeypatch.setattr(drafter, "propose", propose)
    monkeypatch.setattr(runner, "run", timed)
    engine = SpeculativeRunner(runner, drafter, clock_s=lambda: now_s)
    for _ in range(12):
        assert Talk(engine, starter_vocabulary, asked).run() == written
    before_s = now_s
    for _ in range(24):
        Talk(engine, starter_vocabulary, asked).run()
    assert now_s - before_s < 24 * len(plain.rows) / 0.97


class Sketch:
    """Runner and drafter in one, of no model: a pass takes a second, a draft is right and takes `draft_s` for each row,
    and each token that a lane has got without drafts takes `catch_up_s` before its next draft.
    """

    counters = Counters()

    def __init__(self, draft_s: float, catch_up_s: float = 0.0) -> None:
        self.draft_s = draft_s
        self.catch_up_s = catch_up_s
        self.now_s = 0.0
        self.missed: Counter[Lane] = Counter()
        self.written: Counter[Lane] = Counter()
        self.engine = SpeculativeRunner(self, self, clock_s=lambda: self.now_s)

    def propose(self, rows: Sequence[Row]) -> Mapping[Lane, tuple[int, ...]]:
        for row in rows:
            if row.max_proposed:
                self.now_s += self.draft_s + self.catch_up_s * self.missed.pop(row.lane, 0)
        return {row.lane: (7,) for row in rows if row.max_proposed}

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        self.now_s += 1
        self.missed.update(row.lane for row in rows if not row.num_drafts)
        self.written.update({row.lane: row.num_samples for row in rows})
        return tuple(Tokens((7,) * row.num_samples) for row in rows)

    def drop(self, lanes: object) -> None:
        pass

    def kv_bytes(self) -> int:
        return 0

    def shares(self, num_passes: int, *groups: range) -> list[float]:
        """Groups of lanes take turns; in the second half of the passes, so many of each group's had drafts."""
        drafted = [0] * len(groups)
        for n in range(num_passes):
            lanes = [(session, 0) for session in groups[n % len(groups)]]
            rows = [Row(lane, (), (7,), self.written[lane], 0, SampleSpec(), max_proposed=1) for lane in lanes]
            output = self.engine.run(rows)[0]
            assert isinstance(output, Tokens)
            drafted[n % len(groups)] += bool(output.proposed) and 2 * n > num_passes
        return [2 * count * len(groups) / num_passes for count in drafted]


def test_what_pays_for_one_row_need_not_pay_for_eight() -> None:
    """Passes are told apart by their rows."""
    alone, together = Sketch(draft_s=0.2).shares(4000, range(1), range(8))
    assert alone > 0.9 > 0.1 > together


def test_a_batch_that_drains_finds_out_once() -> None:
    """Eight requests end one by one, again and again; drafts that do not pay cost less than 3 %."""
    sketch, sizes = Sketch(draft_s=0.0), (8,) * 12 + (7, 6, 6, 5, 4, 3, 3, 2, 1, 1)
    for batch in range(8):
        for size in sizes:
            sketch.draft_s = 1.5 / size
            sketch.shares(1, range(8 * batch, 8 * batch + size))
    assert 0.97 < sketch.written.total() / sketch.now_s / (sum(sizes) / len(sizes)) < 1


def test_what_pays_one_row_is_not_taken_to_pay_more() -> None:
    """After a time alone, sixteen sessions at once: drafts that cost them more than they make are found out soon."""
    sketch = Sketch(draft_s=0.2)
    assert sketch.shares(400, range(1)) > [0.5]
    before = sketch.written.total(), sketch.now_s
    sketch.shares(200, range(16))
    assert (sketch.written.total() - before[0]) / (sketch.now_s - before[1]) > 0.95 * 16


def test_a_trial_ends_though_the_drafter_always_catches_up() -> None:
    """Batches of eight, eight and seven of the same sessions, by turns: one with drafts always follows one without."""
    sketch, sizes = Sketch(draft_s=0.0), (8, 8, 7) * 600
    for size in sizes:
        sketch.draft_s = 1.5 / size
        sketch.shares(1, range(size))
    assert sketch.written.total() / sketch.now_s > 0.96 * sum(sizes) / len(sizes)


def test_a_drafter_that_catches_up_is_not_blamed() -> None:
    """Sixteen sessions by turns: after a pause, the first draft of each takes as long as all that it has missed."""
    sketch = Sketch(draft_s=5)
    assert sketch.shares(2000, *[range(n, n + 1) for n in range(16)])[0] < 0.2
    sketch.draft_s, sketch.catch_up_s = 0.3, 0.05
    assert min(sketch.shares(12_000, *[range(n, n + 1) for n in range(16)])) > 0.9


@pytest.mark.parametrize(
    ("row", "num_learned"),
    [
        (Row((0, 0), (5,) * 64, (7,), 0, 0, SampleSpec()), 1),
        (Row((0, 0), (5,) * 65, (7,), 0, 0, SampleSpec()), 0),  # a long text
        (Row((0, 0), (5,) * 4, (7, 7, 7), 0, 0, SampleSpec(), visible_source=(3, 4)), 0),  # a lane that is built anew
        (Row((0, 0), (5,) * 4, (), 0, 0, SampleSpec()), 0),  # nothing to write
    ],
)
def test_passes_that_mostly_read_tell_nothing(row: Row, num_learned: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long they take depends on what came in, and not on drafts."""
    learned = []

    def learn(known: DraftAutotune, num_tokens: int, _: float) -> DraftAutotune:
        learned.append(num_tokens)
        return known

    monkeypatch.setattr("worker.engine.speculative.autotune.learn", learn)
    Sketch(draft_s=0.1).engine.run([row])
    assert len(learned) == num_learned


def test_a_draft_model_keeps_up_while_it_is_not_asked(
    small: StreamingModel, starter_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With drafts in every other pass, a model that drafts for itself is right all the same."""
    monkeypatch.setattr(
        "worker.engine.speculative.autotune.learn", lambda known, *_: replace(known, pays=not known.pays)
    )
    engine = speculative(small, starter_vocabulary, small, perf_counter)
    before = replace(engine.counters)
    Talk(engine, starter_vocabulary, french(*((WaitK(k=50), sampling) for sampling in SAMPLINGS))).run()
    proposed = engine.counters.proposed_drafts - before.proposed_drafts
    assert proposed == engine.counters.accepted_drafts - before.accepted_drafts > 10


class Costly(Knowing):
    """Takes a second for its drafts, and tells the time: a pass without them takes a millisecond."""

    now_s = 0.0

    def propose(self, rows: Sequence[Row]) -> Mapping[Lane, tuple[int, ...]]:
        proposed = super().propose(rows)
        self.now_s += bool(proposed)
        return proposed

    def clock_s(self) -> float:
        self.now_s += 0.001
        return self.now_s


def test_drafts_that_cost_more_than_they_save_are_left_out(
    small: StreamingModel, starter_vocabulary: Vocabulary
) -> None:
    """Though all of them come true: but for a trial now and then, the passes are those without. Tokens never change."""
    asked, runner = french((WaitK(k=50), Sampling())), runner_of(small, starter_vocabulary)
    plain = Talk(runner, starter_vocabulary, asked)
    written = plain.run()
    drafter = Costly(written, 1.0)
    engine = SpeculativeRunner(runner, drafter, clock_s=drafter.clock_s)
    talks = [Talk(engine, starter_vocabulary, asked) for _ in range(12)]
    assert all(talk.run() == written for talk in talks)
    num_rows = [len(talk.rows) for talk in talks]
    assert min(num_rows) < num_rows[-1] == len(plain.rows)
    assert drafter.now_s < 10


def speculative(
    model: StreamingModel, vocabulary: Vocabulary, draft: StreamingModel, clock_s: Callable[[], float] | None = None
) -> SpeculativeRunner:
    """A model with another one to draft for it: in every pass, unless there is a clock."""
    drafter = DraftModel(Runner(draft, vocabulary), vocabulary.eos_tokens)
    return SpeculativeRunner(runner_of(model, vocabulary), drafter, clock_s=clock_s)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: str(type(policy).__name__))
def test_a_draft_model_gives_the_same_tokens(
    small: StreamingModel, starter_vocabulary: Vocabulary, policy: Policy
) -> None:
    """In fewer passes, where the draft model thinks as the model does; its lanes go with those of the model."""
    asked = french(*((policy, sampling) for sampling in SAMPLINGS))
    plain = Talk(runner_of(small, starter_vocabulary), starter_vocabulary, asked)
    engine = speculative(small, starter_vocabulary, small)
    fast = Talk(engine, starter_vocabulary, asked)
    assert fast.run() == plain.run()
    assert len(fast.rows) < len(plain.rows)
    assert engine.drafter.kv_bytes() == 0


def test_a_draft_model_follows_what_was_confirmed(small: StreamingModel, starter_vocabulary: Vocabulary) -> None:
    """A model that drafts for itself draws the same noise and is always right: nothing it is fed is out of date."""
    engine = speculative(small, starter_vocabulary, small)
    before = replace(engine.counters)
    Talk(engine, starter_vocabulary, french(*((WaitK(k=50), sampling) for sampling in SAMPLINGS))).run()
    proposed = engine.counters.proposed_drafts - before.proposed_drafts
    assert proposed == engine.counters.accepted_drafts - before.accepted_drafts > 15


def test_a_draft_model_follows_lanes_that_are_built_anew(small: StreamingModel, starter_vocabulary: Vocabulary) -> None:
    """With room for two of four lanes: rows are put off, asked for again, and lose nothing; drafts still come true."""
    asked = french(*((WaitK(k=50), sampling) for sampling in (*SAMPLINGS, *SAMPLINGS)))
    plain = Talk(runner_of(small, starter_vocabulary), starter_vocabulary, asked).run()
    probe = Runner(small, starter_vocabulary)
    probe.run([Row((0, 0), (1,), (), 0, 0, SampleSpec())])
    tight = Runner(small, starter_vocabulary, max_kv_bytes=2 * probe.kv_bytes())
    drafter = DraftModel(Runner(small, starter_vocabulary), starter_vocabulary.eos_tokens)
    engine = SpeculativeRunner(tight, drafter, clock_s=None)
    assert Talk(engine, starter_vocabulary, asked).run() == plain
    assert tight.counters.lost_lanes + tight.counters.deferred_rows > 0
    assert tight.counters.accepted_drafts > 0.8 * tight.counters.proposed_drafts > 0


def test_a_draft_model_that_fails_leaves_the_session_without_drafts(
    small: StreamingModel, starter_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fault is not the session's: the words come out all the same, and it is not asked again."""
    asked = french((WaitK(k=50), Sampling()))
    plain = Talk(runner_of(small, starter_vocabulary), starter_vocabulary, asked).run()
    draft = StreamingModel(small.inner, position_offset=small.position_offset)
    engine = speculative(small, starter_vocabulary, draft)
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        raise MemoryError("no room")

    monkeypatch.setattr(draft, "batch", fail)
    assert Talk(engine, starter_vocabulary, asked).run() == plain
    assert len(calls) == 1


def test_another_tokenizer_is_refused(starter_vocabulary: Vocabulary, chat: Vocabulary) -> None:
    """The error names the first token that means something else, and what to take."""
    check_same_tokenizer(starter_vocabulary, starter_vocabulary, "itself")
    with pytest.raises(UnsupportedModel, match=r"token 0 is .* use a smaller model of the same family"):
        check_same_tokenizer(starter_vocabulary, chat, "other")


@pytest.mark.parametrize("rate", [0.0, 0.8, 1.0])
def test_forced_drafts_come_true_at_their_rate(rate: float) -> None:
    """For sources that were recorded; unknown ones get none."""
    text = tuple(range(1000))
    drafter = ForcedDrafter({(1, 2): text}, rate)
    read = Row((0, 0), (1,), (), 0, 0, SampleSpec())
    write = Row((0, 0), (2,), text[:10], 0, 0, SampleSpec(), max_proposed=900, source_start=1)
    assert drafter.propose([read]) == {}
    proposed = drafter.propose([write, replace(write, lane=(1, 0))])
    assert proposed[1, 0] == ()
    right = sum(token == known for token, known in zip(proposed[0, 0], text[10:], strict=False))
    assert right / 900 == pytest.approx(rate, abs=0.05)
