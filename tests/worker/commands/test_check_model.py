"""The doctor's look at the model."""

import pytest

from worker.commands import check_model
from worker.commands.translation import Model


def test_a_model_is_tried_out(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size, φ, dtype, languages, agreement of the caches and a translation are told."""
    monkeypatch.setattr(check_model, "load_model", lambda name: model)
    found = check_model.model("starter")
    assert found.status == "ok"
    assert found.facts["translation"] in found.text
    assert "φ = 0" in found.text
    assert "French and German" in found.text
