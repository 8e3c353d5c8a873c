"""The doctor's look at the model."""

import doctest

import pytest

from protocol import policy_name
from worker.commands import check_model
from worker.commands.translation import Model
from worker.engine.adapters.compatibility import Compatibility
from worker.library.running import runner_of


def test_rows_that_cannot_share_a_pass(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is shown, with what it costs."""
    monkeypatch.setattr(check_model, "load_model", lambda name: model)
    reason = "2 of its 2 layers have an attention of their own"
    compatibility = Compatibility(batches_rows=False, shows_attention=False, reason=reason)
    monkeypatch.setattr(runner_of(model.engine, model.vocabulary)._runner, "compatibility", compatibility)
    found = check_model.model("starter")
    assert found.status == "warning"
    assert f"sessions cannot share a pass: {reason}" in found.text
    assert "align-att" in found.remedy
    assert found.facts["compatibility_reason"] == reason


def test_a_model_is_tried_out(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size, φ, dtype, languages, agreement of the caches and a translation are told."""
    monkeypatch.setattr(check_model, "load_model", lambda name: model)
    found = check_model.model("starter")
    assert found.status == "ok"
    assert found.facts["translation"] in found.text
    assert "φ = 0" in found.text
    assert "French and German" in found.text


def test_streamed_and_offline_are_compared(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both translations are told, and how many words they share; if few, somebody should read them."""
    monkeypatch.setattr(check_model, "load_model", lambda name: model)
    found = check_model.model("starter")
    assert found.facts["offline"] in found.text
    assert f"{found.facts['agreement']:.0%} of their words" in found.text
    assert found.facts["layout"] == "group"
    assert f"{policy_name(model.vocabulary.default_policy)}: {found.facts['translation']}" in found.text
    monkeypatch.setattr(check_model, "agreement", lambda offline, streamed: 0.3)
    found = check_model.model("starter")
    assert found.status == "warning"
    assert "30%" in found.text


def test_the_share_of_common_words() -> None:
    """In their order; nothing in common is 0."""
    assert doctest.testmod(check_model).failed == 0
    assert check_model.agreement(["a", "b"], ["a", "b"]) == 1
    assert check_model.agreement(["a"], ["b"]) == 0
