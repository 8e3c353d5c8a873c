"""What a model's attention lets the engine do is found by trying; what cannot be driven is refused."""

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import llama
from mlx_lm.models.base import create_attention_mask

from tests.worker.engine.tiny import ROTARY, build
from worker.engine.adapters import attention
from worker.engine.adapters.compatibility import Compatibility, check_surface, probe
from worker.engine.errors import UnsupportedModel
from worker.engine.model import StreamingModel


@pytest.mark.parametrize("family", ROTARY)
def test_only_an_attention_of_its_own_is_run_row_by_row(family: str) -> None:
    """All others tell the rows of a pass apart, and show what they attend to."""
    is_ours = family != "gemma2"
    assert probe(StreamingModel(build(family))) == Compatibility(batches_rows=is_ours, shows_attention=is_ours)


@pytest.mark.parametrize("change", [lambda keys: keys * 1, lambda keys: keys[:, :, :1]])
def test_an_attention_that_changes_what_it_fetches_is_run_row_by_row(
    monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    """Layers that attend to other keys than those of the cache, or fail, are found before anybody is served."""
    attend = attention.attend

    def changed(queries: mx.array, keys: mx.array, values: mx.array, cache: Any = None, **options: Any) -> mx.array:
        return attend(queries, change(keys), values, cache, **options)

    monkeypatch.setattr(attention, "attend", changed)
    assert not probe(StreamingModel(build("llama"))).batches_rows


def test_an_attention_that_makes_its_own_mask_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that does not ask its cache for the mask lets the source see the target: it is refused."""

    def causal(h: mx.array, cache: Any = None, **options: Any) -> Any:
        return create_attention_mask(h, None, **options)

    monkeypatch.setattr(llama, "create_attention_mask", causal)
    with pytest.raises(UnsupportedModel, match="its mask from the cache"):
        check_surface(StreamingModel(build("llama")))


def test_an_attention_that_counts_for_itself_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose rotary module ignores the offset is refused."""
    model = StreamingModel(build("llama"))
    rope = type(model.inner.layers[0].self_attn.rope.inner)
    turn = rope.__call__
    monkeypatch.setattr(rope, "__call__", lambda self, x, offset=0: turn(self, x, offset=0))
    with pytest.raises(UnsupportedModel, match="its positions"):
        check_surface(model)


def test_a_model_that_computes_nonsense_is_found() -> None:
    """Not a number is not within the tolerance."""
    model = StreamingModel(build("llama"))
    model.inner.model.norm.weight = mx.full((32,), float("nan"))
    with pytest.raises(UnsupportedModel):
        check_surface(model)
