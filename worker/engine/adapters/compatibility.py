"""Check that Decalage can run this model, and whether its sessions can share passes.

`check_surface`, at load, raises UnsupportedModel with the reason. `probe`, when a runner is made, finds out whether
rows can share a pass and attention can be captured; if not, `Compatibility.reason` says why.
The checks for rotary positions and plain caches are in `worker.engine.model`.
"""

from typing import NoReturn

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
# Rows of a pass: source and target of unequal lengths, so that one of them is padded.
_ROWS = ((_SOURCE, _TARGET), (_SOURCE[2:], _TARGET[1:]))
# fp32 differs in the last bits only; half precision by its own rounding.
_TOLERANCE = {mx.float32: 1e-2, mx.float16: 0.1, mx.bfloat16: 0.25}


class Compatibility(msgspec.Struct, frozen=True):
    """Abilities of a model's layers, beyond being driven row by row; `reason` tells why one of them is missing."""

    batches_rows: bool  # attention tells the rows of a pass apart
    shows_attention: bool  # what queries attend to can be captured
    reason: str = ""


def probe(model: StreamingModel) -> Compatibility:
    """Run a pass of two rows to find out whether all layers attend by the engine's function, each row to itself."""
    try:
        difference, num_attended_layers = _compare_pass(model, num_rows=2)
    except Exception as error:  # another attention may fail in any way without a mask: such a model runs row by row
        return Compatibility(batches_rows=False, shows_attention=False, reason=_reason(error))
    if num_attended_layers < model.num_layers:
        num_others = model.num_layers - num_attended_layers
        reason = f"{num_others} of its {model.num_layers} layers have an attention of their own, blind to rows"
    elif not difference <= _tolerance(model):
        reason = f"rows that share a pass differ from the same rows alone by {difference:.2g} of the logits' spread"
    else:
        return Compatibility(batches_rows=True, shows_attention=True)
    return Compatibility(batches_rows=False, shows_attention=False, reason=reason)


def check_surface(model: StreamingModel) -> float:
    """Compare the logits of a plain cache with those of dual caches, mixed passes and a batched row.

    Return the largest difference, relative to the logits' spread. The dual cache has φ = len(source). Raises
    UnsupportedModel if they differ: the model does not take its positions or its mask from the cache.
    """
    try:
        plain_logits = _plain_logits(model, _SOURCE, _TARGET)
        is_finite = bool(mx.isfinite(plain_logits).all())
        worst = max(_compare_dual(model, plain_logits), _compare_pass(model, num_rows=1)[0])
    except Exception as error:  # a model of another kind may fail in any way
        _refuse(model, _reason(error), error)
    if not is_finite:
        raise UnsupportedModel(
            f"{model.name} computes logits that are not numbers (NaN or infinite); download its weights again, or load "
            "them in another dtype"
        )
    if not worst <= _tolerance(model):  # also when it is not a number
        _refuse(
            model,
            "it does not take its positions and its mask from the cache: dual and plain logits differ by "
            f"{worst:.2g} of their spread",
        )
    return worst


def _refuse(model: StreamingModel, reason: str, cause: Exception | None = None) -> NoReturn:
    raise UnsupportedModel(
        f"{model.name} has an attention that Decalage cannot drive: {reason}. Use a Qwen, Llama or Mistral model"
    ) from cause


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UnsupportedModel) else f"{type(error).__name__}: {error}"


def _tolerance(model: StreamingModel) -> float:
    return _TOLERANCE.get(model.dtype, 0.25)


def _known(model: StreamingModel, tokens: tuple[int, ...]) -> tuple[int, ...]:
    size = int(model(mx.array([[1]])).shape[-1])
    return tuple(token % size for token in tokens)


def _plain_logits(model: StreamingModel, source: tuple[int, ...], target: tuple[int, ...]) -> mx.array:
    tokens = mx.array([_known(model, source + target)])
    return model(tokens, cache=make_prompt_cache(model.inner))[0]


def _difference(plain: mx.array, other: mx.array) -> float:
    # Of logits (T, V), relative to the spread of the plain ones.
    return float(mx.abs(plain - other).max() / mx.maximum(plain.max() - plain.min(), 1e-6))


def _compare_dual(model: StreamingModel, plain_logits: mx.array) -> float:
    source, target = _known(model, _SOURCE), _known(model, _TARGET)
    layout = GroupLayout(len(source))
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
    return _difference(mx.concatenate([plain, plain, plain_logits[2:4]]), mx.concatenate([written, once, read]))


def _compare_pass(model: StreamingModel, *, num_rows: int) -> tuple[float, int]:
    # The difference of a pass's logits from those of its rows alone, and the number of layers that attended by
    # `BatchCache.attend`.
    pool = Pool(model.num_layers, LENGTHS[0], KVQuantization())
    pool.grow(num_rows)
    rows = []
    for number, (source, target) in enumerate(_ROWS[:num_rows]):
        row = Row((number, 0), _known(model, source), _known(model, target), 0, 0, SampleSpec())
        slots = Slots(pool.length, GroupLayout(len(source)))
        rows.append(BatchRow(pool.allocate(row.lane, slots), row))
    batch = make_batch([(pool, rows)])
    caches = batch.attention.caches(model.num_layers)
    logits = model.batch(batch.tokens, caches, batch.positions, mx.arange(batch.tokens.size))
    plain = mx.concatenate([_plain_logits(model, source, target) for source, target in _ROWS[:num_rows]])
    return _difference(plain, logits), batch.attention.num_attended_layers
