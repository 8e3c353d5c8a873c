"""How a comparison looks."""

import pytest

from protocol import WaitK
from worker.commands.compare_table import show
from worker.commands.translation import Model, Translation, new_task

TEXT = "The weather is nice and we are going to the park. Please close the window before you leave the room."


@pytest.mark.parametrize("columns", [40, 80])
def test_it_never_gets_wider_than_the_terminal(
    columns: int, model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Columns that do not fit go into a table below; a number never parts from its source word."""
    monkeypatch.setenv("COLUMNS", str(columns))
    ks = (1, 2, 3, 4, 5, 6, 7, 8)
    found = {k: Translation(model, new_task(model, TEXT, "fr", policy=WaitK(k=k))).finish() for k in ks}
    show(found)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert all(any(f"k = {k}" in line for line in lines) for k in ks)
    assert any("11 park." in line for line in lines)
    assert sum(line.startswith("┏") for line in lines) > 1
