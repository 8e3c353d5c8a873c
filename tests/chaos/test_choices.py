"""Which talks a chaos run can be judged by."""

from pathlib import Path

import pytest

from tests.chaos import choices
from tests.chaos.choices import clear_talks
from tests.chaos.model import write_tiny_model
from tests.chaos.talks import make_talks


def test_talks_with_a_doubtful_choice_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others keep their order; where too few are left, the model is to blame, and the message says so."""
    model = write_tiny_model(tmp_path)
    monkeypatch.setattr(choices, "_CLEAR", 0.0)
    assert clear_talks(model, 5, 10, 8) == make_talks(5, 12, 8)[:10]
    monkeypatch.setattr(choices, "_CLEAR", 100.0)
    with pytest.raises(ValueError, match="expected 10 of 12 talks to be clear, got 0"):
        clear_talks(model, 5, 10, 8)
