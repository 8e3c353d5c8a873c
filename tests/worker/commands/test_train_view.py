"""What `decalage train` shows while it runs."""

import sys

import pytest
from msgspec.structs import replace

from worker.commands.train_view import sentence, view
from worker.training.events import Event, Loaded, Note, Saved, Stepped, Validated

STEP = Stepped(
    step=50,
    steps=100,
    loss=2.5,
    wait_k=(3,),
    learning_rate=0.002,
    gradient_norm=1.0,
    num_tokens=4000,
    tokens_per_s=1650.4,
    left_s=3723.0,
)
SAID: list[tuple[Event, str]] = [
    (STEP, "step 50 of 100: loss 2.500, 1,650 tokens/s, 1:02:03 left"),
    (Loaded("a.tsv", "fr", 1.0, 1200, {"twice": 3}), "a.tsv: 1,200 rows into fr; left out: 3 twice"),
    (Loaded("a.tsv", "fr", 1.0, 1200, {}), "a.tsv: 1,200 rows into fr; left out: none"),
    (Validated(50, {"1": 2.25, "full": 1.5}), "step 50, validation: 2.250 (k = 1), 1.500 (k = full)"),
    (Validated(50, {"1": 2.0}, averaged=True), "step 50, validation, mean weights: 2.000 (k = 1)"),
    (Saved(50, "out/checkpoint.safetensors"), "step 50: saved out/checkpoint.safetensors"),
    (Note("no curve"), "no curve"),
]


@pytest.mark.parametrize(("event", "said"), SAID)
def test_every_event_is_a_sentence(event: Event, said: str) -> None:
    """One line for each, with units."""
    assert sentence(event) == said


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With loss, speed and time left; other events stand above it, and stdout stays empty."""
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with view(100, as_json=False) as report:
        for event, _ in SAID:
            report(event)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "50/100" in shown.err
    assert "loss 2.500, 1,650 tokens/s, 1:02:03 left" in shown.err
    assert "saved out/checkpoint.safetensors" in shown.err


def test_elsewhere_steps_are_shown_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """A log file gets every fiftieth step, and all that is no step."""
    with view(100, as_json=False) as report:
        for step in (50, 51, 52):
            report(replace(STEP, step=step))
        report(Note("no curve"))
    assert capsys.readouterr().err.splitlines() == [SAID[0][1], "no curve"]
