"""Parity with the paper's own code: every recorded pass gives the recorded logits."""

from typing import Any

import mlx.core as mx
import numpy as np

from worker import StreamingModel

TOLERANCE = 2e-4


def test_every_recorded_forward_pass_is_reproduced(
    golden_model: StreamingModel, golden_cases: list[dict[str, Any]]
) -> None:
    """All logits of all passes of all cases within 2e-4, with the reference's roll-backs at the places it made them."""
    assert len(golden_cases) == 40
    worst = max(_replay(golden_model, case["forwards"]) for case in golden_cases)
    assert worst <= TOLERANCE


def test_the_models_say_that_they_were_trained_with_group_positions(golden_model: StreamingModel) -> None:
    """`_stream` in the architecture's name means φ = 0."""
    assert golden_model.position_offset == 0


def _replay(model: StreamingModel, forwards: list[dict[str, Any]]) -> float:
    # The largest difference to the recording.
    cache = model.make_cache()
    heads = []
    for i, step in enumerate(forwards):
        for layer in cache:
            layer.trim_target(max(0, layer.target_offset - _target_tokens_before_next_write(forwards[i:])))
        offset = cache[0].source_offset if step["reading"] else cache[0].target_offset
        assert step["positions"] == list(range(offset, offset + len(step["tokens"])))
        heads.append(model(mx.array([step["tokens"]]), cache=cache, is_reading=step["reading"])[0, -1, :8])
    recorded = np.array([step["logits_head"] for step in forwards])
    return float(np.abs(np.array(mx.stack(heads)) - recorded).max())


def _target_tokens_before_next_write(forwards: list[dict[str, Any]]) -> int:
    # Without a write to come, nothing is rolled back.
    return next((int(step["positions"][0]) for step in forwards if not step["reading"]), 1 << 30)
