"""Compiled = not compiled: a pass of one row gives what it gives where its graph is made anew."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx_lm.models.llama import Model, ModelArgs

from tests.worker.engine.test_batching import Anything, Recorder
from tests.worker.engine.tiny import build, config
from worker.core.rows import Lane, Row, SampleSpec, Tokens
from worker.engine.adapters import kernels
from worker.engine.batch import ForwardBatch
from worker.engine.compiled import MOST_TOKENS, CompiledForward
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner

pytestmark = pytest.mark.skipif(not kernels.can_fuse(), reason="nothing is compiled without g++ and a CPU")
steps = st.lists(
    st.tuples(
        st.integers(0, 2),  # lane
        st.integers(0, MOST_TOKENS + 1),  # source tokens
        st.integers(0, MOST_TOKENS + 1),  # target tokens
        st.integers(0, 3),  # of those written before, that many are dropped first
        st.integers(0, 3),  # drafts
    ),
    min_size=1,
    max_size=12,
)


def rows(plan: list[tuple[int, int, int, int, int]]) -> Iterator[Row]:
    """Rows that follow the plan, one by one."""
    held: dict[Lane, tuple[int, int]] = {}
    for number, num_source, num_target, num_dropped, num_drafts in plan:
        lane = (number, 0)
        source, target = held.get(lane, (0, 0))
        start = max(0, target - num_dropped)
        if num_source or num_target:
            tokens = tuple((7 * source + 3 * i + number) % 64 for i in range(num_source))
            fed = tuple((5 * start + i + number) % 64 for i in range(num_target))
            drafts = min(num_drafts, max(0, num_target - 1))
            yield Row(lane, tokens, fed, start, drafts, SampleSpec(), source_start=source)
            held[lane] = (source + num_source, start + num_target if fed else target)


def recorded(runner: Runner, row: Row) -> mx.array | None:
    """The logits behind the row; None for a read."""
    runner._sampler = Recorder()
    (sampled,) = runner.run([row])
    assert isinstance(sampled, Tokens)
    return runner._sampler.logits.get(row.lane)


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3", "llama in 8 bits"])
def runners(request: pytest.FixtureRequest) -> tuple[Runner, Runner]:
    """One that compiles, and one that does not."""
    bits = 8 if "bits" in request.param else 0
    wide = Model(ModelArgs.from_dict({**config("llama"), "head_dim": 32}))  # heads that can be quantised
    model = StreamingModel(wide if bits else build(request.param))
    both = Runner(model, Anything(), kv_bits=bits), Runner(model, Anything(), kv_bits=bits)
    both[1]._compiled.can_run = lambda batch: False  # type: ignore[method-assign]
    return both


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(plan=steps)
def test_compiled_gives_what_an_ordinary_pass_gives(
    runners: tuple[Runner, Runner], plan: list[tuple[int, int, int, int, int]]
) -> None:
    """Reads, writes, both at once, drafts and roll-backs of any size, by turns of several lanes in one pool."""
    for row in rows(plan):
        compiled, ordinary = (recorded(runner, row) for runner in runners)
        if compiled is not None and ordinary is not None:
            assert mx.allclose(compiled, ordinary, atol=2e-5)
    for runner in runners:
        runner.run([], dropped=[(number, 0) for number in range(3)])
        runner.check_invariants()


def test_it_is_what_a_lone_row_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of one session are compiled passes, once there is something to go on from; a long read is none."""
    sizes: list[int] = []
    logits = CompiledForward.logits

    def counted(self: CompiledForward, batch: ForwardBatch, queries: Any) -> mx.array:
        sizes.append(batch.tokens.size)
        return logits(self, batch, queries)

    runner = Runner(StreamingModel(build("qwen2")), Anything())
    monkeypatch.setattr(CompiledForward, "logits", counted)
    lane = (0, 0)
    runner.run([Row(lane, (1, 2, 3), (4,), 0, 0, SampleSpec())])
    runner.run([Row(lane, (5, 6), (7,), 1, 0, SampleSpec(), source_start=3)])
    runner.run([Row(lane, tuple(range(40)), (8,), 2, 0, SampleSpec(), source_start=5)])
    runner.run([Row(lane, (), (9, 10), 3, 1, SampleSpec(), source_start=45)])
    assert sizes == [3, 2]


def test_weights_that_change_are_heeded() -> None:
    """A graph holds no copy of the weights."""
    model = StreamingModel(build("qwen2"))
    runner = Runner(model, Anything())
    lane = (0, 0)
    runner.run([Row(lane, (1, 2, 3), (4,), 0, 0, SampleSpec())])
    before = recorded(runner, Row(lane, (), (5,), 1, 0, SampleSpec(), source_start=3))
    norm = model.inner.model.norm
    norm.weight = norm.weight * 2
    after = recorded(runner, Row(lane, (), (5,), 1, 0, SampleSpec(), source_start=3))
    assert before is not None
    assert after is not None
    assert mx.allclose(after, 2 * before, atol=1e-4)
