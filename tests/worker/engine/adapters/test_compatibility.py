"""What a model's attention lets the engine do is found by trying; what cannot be driven is refused."""

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import llama
from mlx_lm.models.base import create_attention_mask

from tests.worker.engine.test_batching import Anything
from tests.worker.engine.tiny import ROTARY, build
from worker.engine import batch
from worker.engine.adapters import attention
from worker.engine.adapters.compatibility import Compatibility, check_surface, probe
from worker.engine.errors import UnsupportedModel
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner


@pytest.mark.parametrize("family", ROTARY)
def test_only_an_attention_of_its_own_is_run_row_by_row(family: str) -> None:
    """All others tell the rows of a pass apart, and show what they attend to."""
    is_ours = family != "gemma2"
    reason = "" if is_ours else "2 of its 2 layers have an attention of their own, blind to rows"
    assert probe(StreamingModel(build(family))) == Compatibility(
        batches_rows=is_ours, shows_attention=is_ours, reason=reason
    )


def test_rows_that_see_each_other_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a row's logits in a shared pass differ from those alone, no pass is shared, and the reason is told."""
    monkeypatch.setattr(batch.PaddedGroup, "attend", lambda self, layer, queries, **_: queries[0] * 0 + 1)
    compatibility = probe(StreamingModel(build("llama")))
    assert not compatibility.batches_rows
    assert "differ from the same rows alone by" in compatibility.reason


@pytest.mark.parametrize("change", [lambda keys: keys * 1, lambda keys: keys[:, :, :1]])
def test_an_attention_that_changes_what_it_fetches_is_refused(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Layers that attend to other keys than those of the cache, or fail, are found before anybody is served."""
    attend = attention.attend

    def changed(queries: mx.array, keys: mx.array, values: mx.array, cache: Any = None, **options: Any) -> mx.array:
        return attend(queries, change(keys), values, cache, **options)

    monkeypatch.setattr(attention, "attend", changed)
    model = StreamingModel(build("llama"))
    assert "other keys and values than they store" in probe(model).reason
    with pytest.raises(UnsupportedModel, match="cannot drive: "):
        check_surface(model)


@pytest.mark.parametrize("fails_at", ["read", "write", "two rows", "alignment", "fed again"])
def test_a_runner_makes_every_kind_of_pass_before_it_serves(monkeypatch: pytest.MonkeyPatch, fails_at: str) -> None:
    """A model that fails in one kind only is refused when its runner is made, with the reason."""

    def make_batch(rows_by_pool: Any) -> Any:
        groups = [(pool, list(rows)) for pool, rows in rows_by_pool]
        rows = [batch_row.row for _, group in groups for batch_row in group]
        kinds = {
            "read": any(row.source and not row.target for row in rows),
            "write": any(row.target and not row.source for row in rows),
            "two rows": len(rows) > 1,
            "alignment": any(row.sampling.aligned_from is not None for row in rows),
            "fed again": any(row.is_contiguous for row in rows),
        }
        if kinds[fails_at]:
            raise NotImplementedError(f"no {fails_at}")
        return batch.make_batch(groups)

    monkeypatch.setattr("worker.engine.runner.make_batch", make_batch)
    with pytest.raises(UnsupportedModel, match=f"cannot run the passes of sessions: .*no {fails_at}"):
        Runner(StreamingModel(build("llama")), Anything())


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
    """Logits that are not numbers are called that."""
    model = StreamingModel(build("llama"))
    model.inner.model.norm.weight = mx.full((32,), float("nan"))
    with pytest.raises(UnsupportedModel, match=r"not numbers .* download its weights again"):
        check_surface(model)
