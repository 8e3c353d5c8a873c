"""The runner: one pass does what several would, rows do not know each other, lanes are freed."""

from collections.abc import Iterable, Sequence

import mlx.core as mx
import pytest
from msgspec.structs import replace

from protocol import (
    Adaptive,
    AlignAtt,
    InputTextAppend,
    Limits,
    LocalAgreement,
    Policy,
    Sampling,
    Session,
    SessionClose,
    SessionCreate,
    Speculation,
    WaitK,
)
from tests.worker.core.drive import Driver, check_stream, deltas, timeless
from worker.core.rows import Failed, Lane, Output, Row, SampleSpec, Tokens, sampled_tokens
from worker.core.scheduler import Budget
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.text.tokenizer import Vocabulary

TEXTS = [
    "I do not know where he lives.",
    "The weather is nice and we are going to the park in 2024.",
    "Thank you.",
    "Please close the window before you leave the room, my friend.",
    "Why 🎉 not?",
    "She has three cats, two dogs and a very small <|im_end|> garden.",
]
FRENCH = Session(target_language="fr", policy=WaitK(k=3))
WARM = replace(FRENCH, sampling=Sampling(temperature=0.8, top_p=0.9, repetition_penalty=1.2, seed=5))


@pytest.fixture
def runner(small: StreamingModel, starter_vocabulary: Vocabulary) -> Runner:
    return Checked(small, starter_vocabulary)


class Checked(Runner):
    """A runner whose slots, rows and bytes add up after every tick."""

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        found = super().run(rows, dropped)
        self.check_invariants()
        return found


def drive(
    runner: Runner,
    sessions: dict[str, tuple[Session, str]],
    vocabulary: Vocabulary,
    *,
    max_rows: int = 64,
    evict: Iterable[int] = (),
) -> Driver:
    """All sessions, word by word, to their end; after the words `evict` all lanes are lost."""
    driver = Driver(vocabulary=vocabulary, names=sessions, budget=Budget(max_rows=max_rows))  # type: ignore[arg-type]
    driver.runner = runner  # type: ignore[assignment]
    for name, (session, _) in sessions.items():
        driver.step(SessionCreate(session=session), name=name)
    for i in range(max(len(text.split()) for _, text in sessions.values())):
        for name, (_, text) in sessions.items():
            driver.step(*(InputTextAppend(text=word) for word in text.split()[i : i + 1]), name=name)
        driver.now_ms += 1
        driver.tick()
        if i in evict:
            runner.run([], dropped=driver.evict())
    for name in sessions:
        driver.step(SessionClose(), name=name)
    driver.run(2000)
    driver.update(driver.plan())
    return driver


def words_of(vocabulary: Vocabulary, text: str) -> list[tuple[int, ...]]:
    split = text.split()
    return [vocabulary.encode_word(word, split[i - 1] if i else "") for i, word in enumerate(split)]


def test_one_mixed_pass_is_many(small: StreamingModel, starter_vocabulary: Vocabulary) -> None:
    """Read a word, feed the last token again and verify a draft: the same logits and slots in one pass as in three."""
    prompt = starter_vocabulary.prompt(FRENCH)
    read = [token for word in words_of(starter_vocabulary, TEXTS[1])[:4] for token in word]
    start = [*prompt.source, *read[:-1]], [*prompt.target, 700, 800]
    together, apart = small.make_cache(), small.make_cache()
    for cache in (together, apart):
        small.forward(*start, cache)
        for layer in cache:
            layer.trim_target(1)
    once = small.forward(read[-1:], [800, 900], together)[0, -2:]
    small(mx.array([read[-1:]]), cache=apart)
    steps = [small(mx.array([[token]]), cache=apart, is_reading=False)[0, -1] for token in (800, 900)]
    assert float(mx.abs(once - mx.stack(steps)).max()) < 1e-3
    assert (together[0].source_offset, together[0].target_offset) == (apart[0].source_offset, apart[0].target_offset)


def test_a_row_samples_behind_every_draft(runner: Runner, starter_vocabulary: Vocabulary) -> None:
    """Drafts in a row give the tokens that feeding them one by one gives, and a false draft changes none before it."""
    prompt = starter_vocabulary.prompt(FRENCH)
    source = (
        *prompt.source,
        *(token for word in words_of(starter_vocabulary, TEXTS[0]) for token in word),
        *prompt.end,
    )
    row = Row(lane=(0, 0), source=source, target=prompt.target, target_start=0, num_drafts=0, sampling=SampleSpec())
    greedy = list(prompt.target)
    for i in range(6):
        step = replace(row, source=source if not i else (), target=tuple(greedy[-1:]), target_start=i)
        greedy += sampled_tokens(runner.run([step])[0])
    drafts = (*greedy[1:4], 7)
    rows = [replace(row, lane=(1, 0), target=(*prompt.target, *drafts), num_drafts=4)]
    assert sampled_tokens(runner.run(rows)[0])[:4] == tuple(greedy[1:5])
    assert runner.counters.accepted_drafts == 3
    assert runner.counters.proposed_drafts == 4
    again = replace(row, lane=(1, 0), source=(), target=tuple(greedy[4:6]), target_start=4)
    assert sampled_tokens(runner.run([again])[0]) == tuple(greedy[6:7])


@pytest.mark.parametrize("session", [FRENCH, WARM])
def test_many_sessions_are_each_alone(
    runner: Runner, small: StreamingModel, starter_vocabulary: Vocabulary, session: Session
) -> None:
    """Six sessions of unequal length and k, served in turns of four: each publishes what it publishes alone."""
    sessions = {f"s{i}": (replace(session, policy=WaitK(k=1 + i % 4)), text) for i, text in enumerate(TEXTS)}
    together = drive(runner, sessions, starter_vocabulary, max_rows=4)
    for name, one in sessions.items():
        alone = drive(Runner(small, starter_vocabulary), {name: one}, starter_vocabulary)
        check_stream(together.events[name])
        assert deltas(together.events[name])
        assert timeless(together.events[name]) == timeless(alone.events[name])
    assert runner.num_lanes == 0
    assert runner.kv_bytes() == 0


def test_sessions_of_unlike_policies_are_each_alone(
    runner: Runner, small: StreamingModel, starter_vocabulary: Vocabulary
) -> None:
    """What a policy asks of the engine, a session beside it is not told of: words and passes are those it has alone."""
    policies: list[Policy] = [WaitK(k=2), Adaptive(threshold=0.6), AlignAtt(frame_words=1), LocalAgreement()]
    sessions = {f"s{i}": (replace(FRENCH, policy=policy), TEXTS[1]) for i, policy in enumerate(policies)}
    together = drive(runner, sessions, starter_vocabulary)
    for i, (name, one) in enumerate(sessions.items()):
        alone = drive(Runner(small, starter_vocabulary), {name: one}, starter_vocabulary)
        assert timeless(together.events[name]) == timeless(alone.events[name])
        assert sum(row.lane[0] == i for row in together.rows) == len(alone.rows)


@pytest.mark.parametrize(
    "session",
    [
        FRENCH,
        WARM,
        replace(FRENCH, policy=WaitK(k=2, catchup=0.3)),
        replace(FRENCH, policy=Adaptive(min_k=1, max_k=5, threshold=0.6)),
        replace(FRENCH, policy=LocalAgreement(k=2)),
        replace(FRENCH, policy=AlignAtt(frame_words=1)),
    ],
)
def test_evicted_and_rebuilt_is_kept(
    runner: Runner, small: StreamingModel, starter_vocabulary: Vocabulary, session: Session
) -> None:
    """Six sessions whose lanes are lost three times publish, token for token, what they publish undisturbed."""
    sessions = {f"s{i}": (session, text) for i, text in enumerate(TEXTS)}
    kept = drive(runner, sessions, starter_vocabulary)
    lost = drive(Checked(small, starter_vocabulary), sessions, starter_vocabulary, evict=(3, 5, 8))
    for name in sessions:
        assert timeless(lost.events[name]) == timeless(kept.events[name])


@pytest.mark.parametrize("num_lanes", [1, 2, 4])
def test_a_budget_of_bytes_changes_the_cost_only(
    runner: Runner, small: StreamingModel, starter_vocabulary: Vocabulary, num_lanes: int
) -> None:
    """Six sessions in room for one, two or four: they wait, lose their lanes, and publish the same."""
    sessions = {f"s{i}": (FRENCH, text) for i, text in enumerate(TEXTS)}
    kept = drive(runner, sessions, starter_vocabulary)
    runner.run([Row((9, 9), (1,), (), 0, 0, SampleSpec())])
    tight = Checked(small, starter_vocabulary, max_kv_bytes=num_lanes * runner.kv_bytes())
    found = drive(tight, sessions, starter_vocabulary)
    for name in sessions:
        assert timeless(found.events[name]) == timeless(kept.events[name])
    assert tight.counters.lost_lanes > 0
    assert tight.counters.deferred_rows > 0
    assert runner.counters.lost_lanes == runner.counters.deferred_rows == 0


@pytest.mark.parametrize("session", [FRENCH, WARM])
def test_speculation_changes_the_cost_only(
    runner: Runner, small: StreamingModel, starter_vocabulary: Vocabulary, session: Session
) -> None:
    """The same words with and without drafts; with them in fewer passes."""
    slow = Runner(small, starter_vocabulary)
    without = replace(session, speculation=Speculation(enabled=False))
    fast_events = drive(runner, {"s": (session, TEXTS[3])}, starter_vocabulary).events["s"]
    slow_events = drive(slow, {"s": (without, TEXTS[3])}, starter_vocabulary).events["s"]
    assert timeless(fast_events)[1:] == timeless(slow_events)[1:]
    assert slow.counters.proposed_drafts == 0
    assert runner.counters.forwards < slow.counters.forwards


def test_a_faulty_row_ends_alone(runner: Runner, starter_vocabulary: Vocabulary) -> None:
    """A row that cannot be run reports why and loses its lane; the rows around it are sampled."""
    prompt = starter_vocabulary.prompt(FRENCH)
    good = Row(
        lane=(0, 0), source=prompt.source, target=prompt.target, target_start=0, num_drafts=0, sampling=SampleSpec()
    )
    runner.run([replace(good, lane=(1, 0))])
    bad = replace(good, lane=(1, 0), target_start=9)
    results = runner.run([good, bad, replace(good, lane=(2, 0))])
    assert isinstance(results[0], Tokens)
    assert results[0] == results[2] != Tokens()
    assert isinstance(results[1], Failed)
    assert results[1].error.startswith("ValueError: ")
    assert runner.num_lanes == 2


def test_dropped_lanes_are_freed(runner: Runner, starter_vocabulary: Vocabulary) -> None:
    """A lane holds bytes until it is dropped; a lane that nobody knows is dropped without a word."""
    prompt = starter_vocabulary.prompt(FRENCH)
    row = Row(lane=(0, 0), source=prompt.source, target=(), target_start=0, num_drafts=0, sampling=SampleSpec())
    assert runner.run([row]) == (Tokens(),)
    assert runner.kv_bytes() > 0
    runner.run([], dropped=[(0, 0), (5, 5)])
    assert runner.kv_bytes() == 0


def test_special_tokens_are_never_written(runner: Runner, starter_vocabulary: Vocabulary) -> None:
    """Even at a temperature where every token is as likely as any other."""
    hot = replace(FRENCH, sampling=Sampling(temperature=10.0, seed=1), limits=Limits(max_new_words=12))
    events = drive(runner, {"s": (hot, TEXTS[3])}, starter_vocabulary).events["s"]
    tokens = {token for event in deltas(events) for token in event.tokens}
    assert len(tokens) > 10
    assert not tokens & set(range(5))
