"""Keys and values in fewer bits: less memory, almost the same logits, and all that holds without holds within."""

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx_lm.models.llama import Model, ModelArgs
from msgspec.structs import replace

from tests.worker.core.drive import timeless
from tests.worker.engine.kv import test_rebuilding as rebuilding
from tests.worker.engine.test_batching import TICKS, Alone, Anything, Recorder, rows_of
from tests.worker.engine.test_runner import FRENCH, TEXTS, Checked, drive
from tests.worker.engine.tiny import build, config
from worker.core.rows import Row, SampleSpec, Tokens
from worker.engine.errors import UnsupportedModel
from worker.engine.kv import manager
from worker.engine.kv.pool import LENGTHS
from worker.engine.kv.quantization import KV_BITS, KVQuantization, quantization
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.text.tokenizer import Vocabulary

NEAR = {8: 0.1, 4: 2.0}  # of logits that spread over 10
LANE = Row((9, 9), (1,), (), 0, 0, SampleSpec())


@pytest.fixture(scope="module")
def model() -> StreamingModel:
    """Heads of 32 numbers, the fewest that a group takes."""
    mx.random.seed(7)
    return StreamingModel(Model(ModelArgs.from_dict({**config("llama"), "head_dim": 32})), position_offset=3)


@pytest.fixture(scope="module")
def pairs(model: StreamingModel) -> dict[int, tuple[Runner, Runner]]:
    """Two runners for each number of bits; who uses them frees the lanes. To make one takes as long as an example."""
    return {
        bits: (Runner(model, Anything(), kv_bits=bits), Runner(model, Anything(), kv_bits=bits)) for bits in KV_BITS
    }


@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from(KV_BITS), size=st.sampled_from([32, 64, 96, 128]))
def test_what_is_packed_comes_back(seed: int, bits: int, size: int) -> None:
    """Within a step of each group's range, which is cut in 255 or 15; a slice of the packed is packed."""
    keys, values = mx.random.normal((2, 5, 3, size), key=mx.random.key(seed))
    how = quantization(bits, (size, size), "m")
    arrays = how.pack(keys, values)
    for array, back in zip((keys, values), how.unpack(arrays), strict=True):
        groups = array.reshape(-1, how.group_size)
        steps = (groups.max(axis=-1) - groups.min(axis=-1)) / (2**bits - 1)
        off = mx.abs(back - array).reshape(groups.shape).max(axis=-1)
        assert bool(mx.all(off <= steps))
    assert mx.array_equal(how.unpack([array[1:3] for array in arrays])[1], how.unpack(arrays)[1][1:3])


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(ticks=TICKS, bits=st.sampled_from(KV_BITS))
def test_batched_is_alone_and_near_what_is_not_quantised(
    model: StreamingModel,
    pairs: dict[int, tuple[Runner, Runner]],
    ticks: list[list[tuple[int, list[int], list[int], int, int, int]]],
    bits: int,
) -> None:
    """Lanes join, read, roll back, grow and leave: in one pass the logits are those of passes of their own, but where a
    rounding tips; those without quantisation are as near as `NEAR` says.
    """
    recorders, exact = (Recorder(), Recorder()), Alone(model)
    together, apart = pairs[bits]
    together._sampler, apart._sampler = recorders
    for runner in (together, apart):
        runner.run([], dropped=[(number, 0) for number in range(5)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "LENGTHS", (8, 16, 128))
        for rows, dropped in rows_of(ticks):
            for lane in dropped:
                exact.caches.pop(lane, None)
            together.run(rows, dropped)
            apart.run([], dropped)
            together.check_invariants()
            for row in rows:
                apart.run([row])
                if (expected := exact.logits(row)) is not None:
                    found, alone = (recorder.logits[row.lane] for recorder in recorders)
                    assert float(mx.abs(found - alone).max()) < NEAR[bits] / 10
                    assert float(mx.abs(found - expected).max()) < NEAR[bits]


@pytest.mark.parametrize("bits", KV_BITS)
@pytest.mark.parametrize("chunk", [1, 100])
def test_rebuilt_is_kept(model: StreamingModel, bits: int, chunk: int) -> None:
    """A lane that is fed again, at once or bit by bit, holds what the lane held that was fed word by word."""
    steps: list[rebuilding.Step] = [([3, 5, 7], [1], 0), ([9], [1, 2, 6], 1), ([11, 4], [6, 8], 1), ([], [13], 0)]
    rebuilding.check(Runner(model, Anything(), kv_bits=bits), steps, chunk)


@pytest.mark.parametrize("bits", KV_BITS)
def test_sessions_publish_the_same_however_they_are_served(
    small: StreamingModel, starter_vocabulary: Vocabulary, bits: int
) -> None:
    """Together, alone, with lanes that are lost, and in room for two of six: word for word the same."""
    sessions = {f"s{i}": (FRENCH, text) for i, text in enumerate(TEXTS)}

    def runner(max_kv_bytes: int | None = None) -> Runner:
        return Checked(small, starter_vocabulary, max_kv_bytes, kv_bits=bits)

    probe = runner()
    probe.run([LANE])
    together = drive(runner(), sessions, starter_vocabulary)
    rebuilt = drive(runner(), sessions, starter_vocabulary, evict=(3, 5))
    tight = drive(runner(2 * probe.kv_bytes()), sessions, starter_vocabulary)
    for name, one in sessions.items():
        alone = drive(runner(), {name: one}, starter_vocabulary)
        for other in (rebuilt, tight, alone):
            assert timeless(other.events[name]) == timeless(together.events[name])


@pytest.mark.parametrize(("bits", "head_bytes"), [(0, 256), (8, 64 + 8), (4, 32 + 8)])
def test_a_budget_of_bytes_holds_several_times_the_sessions(
    small: StreamingModel, starter_vocabulary: Vocabulary, bits: int, head_bytes: int
) -> None:
    """64 numbers of a head take 256 bytes in fp32; in fewer bits, a scale and a bias come on top."""
    budget, number = 2**22, 0
    runner = Runner(small, starter_vocabulary, budget, kv_bits=bits)
    while not runner.counters.lost_lanes:
        assert isinstance(runner.run([replace(LANE, lane=(number, 0))])[0], Tokens)
        runner.check_invariants()
        number += 1
    args = small.args
    lane_bytes = LENGTHS[0] * args.num_hidden_layers * 2 * args.num_key_value_heads * head_bytes
    assert number - 1 == budget // lane_bytes


def test_what_cannot_be_packed_is_refused(model: StreamingModel) -> None:
    """Other bits, and heads that no group divides, with what to do; without quantisation any head will do."""
    with pytest.raises(ValueError, match="8 or 4 bits, or 0: not quantised; got 5"):
        Runner(model, Anything(), kv_bits=5)
    small = StreamingModel(build("llama"))
    with pytest.raises(UnsupportedModel, match=r"heads have 8 numbers, .* 64 or 32 do not divide; leave out --kv-bits"):
        Runner(small, Anything(), kv_bits=8)
    assert quantization(0, (8, 8), "m") == KVQuantization()
    assert Runner(small, Anything()).compatibility.batches_rows
