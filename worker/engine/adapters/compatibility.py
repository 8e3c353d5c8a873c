"""Checks, on a few tokens, that a model can be driven.

`check_surface`, at load, raises UnsupportedModel where the model ignores its cache's positions or mask. `probe`, when a
runner is made, finds out whether rows can share a pass and attention can be captured. The checks for rotary positions
and plain caches are in `worker.engine.model`.
"""

import mlx.core as mx
import msgspec
from mlx_lm.models.cache import make_prompt_cache

from worker.core.rows import Row, SampleSpec
from worker.engine.batch import BatchRow, make_batch
from worker.engine.errors import UnsupportedModel
from worker.engine.kv.pool import LENGTHS, Pool
from worker.engine.kv.quantization import KVQuantization
from worker.engine.kv.slots import Slots
from worker.engine.model import StreamingModel
from worker.engine.visibility import GroupLayout

_SOURCE = (3, 5, 7, 11, 13)
_TARGET = (17, 19, 23)
# fp32 differs in the last bits only; half precision by its own rounding.
_TOLERANCE = {mx.float32: 1e-2, mx.float16: 0.1, mx.bfloat16: 0.25}


class Compatibility(msgspec.Struct, frozen=True):
    """Abilities of a model's layers, beyond being driven row by row."""

    batches_rows: bool  # attention tells the rows of a pass apart
    shows_attention: bool  # what queries attend to can be captured


def probe(model: StreamingModel) -> Compatibility:
    """Run a pass of two rows to find out whether all layers attend by the engine's function."""
    pool = Pool(model.num_layers, LENGTHS[0], KVQuantization())
    pool.grow(2)
    lanes = [(0, 0), (1, 0)]
    rows = [
        BatchRow(
            pool.allocate(lane, Slots(pool.length, model.layout)),
            Row(lane, source=(0,), target=(0,), target_start=0, num_drafts=0, sampling=SampleSpec()),
        )
        for lane in lanes
    ]
    batch = make_batch([(pool, rows)])
    caches = batch.attention.caches(model.num_layers)
    try:
        mx.eval(model.batch(batch.tokens, caches, batch.positions, mx.array([1, 3])))
    except Exception:  # another attention may fail in any way without a mask: such a model runs row by row
        return Compatibility(batches_rows=False, shows_attention=False)
    attends = batch.attention.num_attended_layers == model.num_layers
    return Compatibility(batches_rows=attends, shows_attention=attends)


def check_surface(model: StreamingModel) -> float:
    """Compute the same in three ways; return the largest difference in the logits, relative to their spread.

    A plain cache over source and target; a dual cache with φ = len(source), read and written apart; and mixed passes.
    Raises UnsupportedModel where they differ: the model does not take its positions or its mask from the cache.
    """
    size = int(model(mx.array([[1]])).shape[-1])
    source, target = [[t % size for t in tokens] for tokens in (_SOURCE, _TARGET)]
    layout = GroupLayout(len(source))
    plain_logits = model(mx.array([source + target]), cache=make_prompt_cache(model.inner))[0]
    plain = plain_logits[len(source) :]
    apart = model.make_cache(layout)
    model(mx.array([source]), cache=apart)
    written = model(mx.array([target]), cache=apart, is_reading=False)[0]
    mixed = model.make_cache(layout)
    model.forward(source[:2], target[:1], mixed)
    read = model.forward(source[2:4], (), mixed)[0]  # behind a target token, which it must not see
    for layer in mixed:
        layer.trim_target(1)
    once = model.forward(source[4:], target, mixed)[0, 1:]
    spread = mx.maximum(plain.max() - plain.min(), 1e-6)
    worst = float(mx.abs(mx.concatenate([plain - written, plain - once, plain_logits[2:4] - read])).max() / spread)
    if not worst <= _TOLERANCE.get(model.dtype, 0.25):  # also when it is not a number
        raise UnsupportedModel(
            f"{model.name} does not take its positions and its mask from the cache: dual and plain logits differ by "
            f"{worst:.2g} of their spread. Its attention is not one that Decalage can drive; use a Qwen, Llama or "
            "Mistral model"
        )
    return worst
