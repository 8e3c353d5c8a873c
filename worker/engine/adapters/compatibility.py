"""A model's attention is tried out before it is trusted: whole = dual = one mixed pass, on a few tokens."""

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from worker.engine.errors import UnsupportedModel
from worker.engine.model import StreamingModel

_SOURCE = (3, 5, 7, 11, 13)
_TARGET = (17, 19, 23)
# fp32 differs in the last bits only; half precision by its own rounding.
_TOLERANCE = {mx.float32: 1e-2, mx.float16: 0.1, mx.bfloat16: 0.25}


def check_surface(model: StreamingModel) -> float:
    """The largest difference in the logits, relative to their spread, between three ways to compute the same.

    A plain cache over source and target; a dual cache with φ = len(source), read and written apart; and mixed passes.
    Raises UnsupportedModel where they differ: the model does not take its positions or its mask from the cache.
    """
    size = int(model(mx.array([[1]])).shape[-1])
    source, target = [[t % size for t in tokens] for tokens in (_SOURCE, _TARGET)]
    whole = model(mx.array([source + target]), cache=make_prompt_cache(model.inner))[0]
    plain = whole[len(source) :]
    apart = model.make_cache(len(source))
    model(mx.array([source]), cache=apart)
    written = model(mx.array([target]), cache=apart, is_reading=False)[0]
    mixed = model.make_cache(len(source))
    model.forward(source[:2], target[:1], mixed)
    read = model.forward(source[2:4], (), mixed)[0]  # behind a target token, which it must not see
    for layer in mixed:
        layer.trim_target(1)
    once = model.forward(source[4:], target, mixed)[0, 1:]
    spread = mx.maximum(plain.max() - plain.min(), 1e-6)
    worst = float(mx.abs(mx.concatenate([plain - written, plain - once, whole[2:4] - read])).max() / spread)
    if not worst <= _TOLERANCE.get(model.dtype, 0.25):  # also when it is not a number
        raise UnsupportedModel(
            f"{model.name} does not take its positions and its mask from the cache: dual and plain logits differ by "
            f"{worst:.2g} of their spread. Its attention is not one that Decalage can drive; use a Qwen, Llama or "
            "Mistral model"
        )
    return worst
