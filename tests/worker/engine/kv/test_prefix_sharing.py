"""A prompt that many lanes begin with is computed once: shared is the same as not shared."""

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx_lm.models.llama import Model, ModelArgs
from msgspec.structs import replace

from protocol import Limits, Sampling, Session, WaitK
from tests.worker.core.drive import deltas, timeless
from tests.worker.engine.test_batching import Anything, Recorder, V
from tests.worker.engine.test_runner import TEXTS, Checked, drive
from tests.worker.engine.tiny import ROTARY, build, config
from worker.core.rows import Row, SampleSpec, Tokens
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.text.tokenizer import Vocabulary

PROMPT = tuple(range(3, 15))
OTHER = tuple(range(20, 40))
TICKS = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 5),  # lane
            st.sampled_from([PROMPT, OTHER, PROMPT[:4]]),  # what it begins with
            st.lists(st.integers(0, V - 1), max_size=5),  # source tokens
            st.booleans(),  # the lane leaves before
        ),
        max_size=4,
        unique_by=lambda step: step[0],
    ),
    max_size=8,
)
Step = tuple[int, tuple[int, ...], list[int], bool]


def check(model: StreamingModel, ticks: list[list[Step]], *, max_lanes: int | None = None) -> Runner:
    """Every row's logits are those of a runner that shares nothing."""
    shared, apart = Runner(model, Anything()), Runner(model, Anything())
    if max_lanes is not None:
        shared._kv_cache.max_bytes = max_lanes * 128 * (shared._kv_cache.slot_bytes or 0)
    logs = Recorder(), Recorder()
    shared._sampler, apart._sampler = logs
    held: dict[int, tuple[int, int]] = {}
    for tick in ticks:
        dropped = [(number, 0) for number, _, _, leaves in tick if leaves and held.pop(number, (0, 0))]
        rows = []
        for number, prompt, source, _ in tick:
            num_source, num_target = held.get(number, (0, 0))
            begun = source if num_source else [*prompt, *source]
            prefix = 0 if num_source else len(prompt)
            row = Row(
                (number, 0), tuple(begun), (1,), num_target, 0, SampleSpec(), source_start=num_source, prefix=prefix
            )
            rows.append(row)
            held[number] = (num_source + len(begun), num_target + 1)
        found = shared.run(rows, dropped)
        apart.run([replace(row, prefix=0) for row in rows], dropped)
        shared.check_invariants()
        for row, sampled in zip(rows, found, strict=True):
            if max_lanes is not None and not isinstance(sampled, Tokens):
                return shared
            assert isinstance(sampled, Tokens)
            assert float(mx.abs(logs[0].logits[row.lane] - logs[1].logits[row.lane]).max()) < 1e-4
    return shared


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(ticks=TICKS, max_lanes=st.sampled_from([None, 3]))
def test_shared_is_not_shared(ticks: list[list[Step]], max_lanes: int | None) -> None:
    """Law: whoever comes, goes and begins like whom, and however little room there is."""
    check(StreamingModel(build("qwen2"), position_offset=40), ticks, max_lanes=max_lanes)


@pytest.mark.parametrize("family", ROTARY)
def test_shared_is_not_shared_in_every_family(family: str) -> None:
    """The third lane that begins alike copies what the first has computed."""
    ticks: list[list[Step]] = [[(0, PROMPT, [7], False)], [(1, PROMPT, [9, 2], False), (2, PROMPT, [], False)]]
    assert check(StreamingModel(build(family), position_offset=40), ticks).counters.shared_tokens == 2 * len(PROMPT)


def test_a_row_that_is_all_prompt_needs_no_pass() -> None:
    """A long text in chunks: the first of them may be what another lane begins with, and nothing else."""
    runner = Runner(StreamingModel(build("llama")), Anything())
    row = Row((0, 0), PROMPT, (), 0, 0, SampleSpec(), prefix=len(PROMPT))
    runner.run([row])
    passes = runner.counters.passes
    assert isinstance(runner.run([replace(row, lane=(1, 0))])[0], Tokens)
    assert runner.counters.passes == passes


def test_only_so_many_prompts_are_kept() -> None:
    """Prompts that differ from session to session do not pile up."""
    runner = Runner(StreamingModel(build("llama")), Anything())
    for i in range(30):
        prompt = (i, *PROMPT)
        runner.run([Row((i, 0), prompt, (), 0, 0, SampleSpec(), prefix=len(prompt))])
        runner.run([], dropped=[(i, 0)])
    assert runner.num_lanes <= 8
    runner.check_invariants()


def test_sessions_of_a_chat_model_share_its_prompt(chat: Vocabulary) -> None:
    """Sessions of a chat model publish, token for token, what they publish when each computes its own prompt."""
    mx.random.seed(3)
    model = StreamingModel(Model(ModelArgs.from_dict({**config("llama"), "vocab_size": 258})), position_offset=256)
    spec = Session(
        target_language="fr",
        policy=WaitK(k=2),
        sampling=Sampling(temperature=1.0),
        limits=Limits(max_new_words=4, max_tokens_per_word=8),
    )
    sessions = {f"s{i}": (replace(spec, sampling=Sampling(temperature=1.0, seed=i)), TEXTS[i]) for i in range(3)}
    shared = Checked(model, chat)
    drive(shared, sessions, chat)
    found = drive(shared, sessions, chat)
    for name, one in sessions.items():
        apart = Checked(model, chat)
        assert timeless(drive(apart, {name: one}, chat).events[name]) == timeless(found.events[name])
        assert apart.counters.shared_tokens == 0
    assert any(deltas(events) for events in found.events.values())
    assert shared.counters.shared_tokens > 0
