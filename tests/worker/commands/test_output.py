"""What goes where."""

import json

import pytest

from worker.commands import output


def test_results_on_stdout_notes_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """A note never gets between the results, and is one line however long."""
    output.print_json_line({"text": "où"})
    output.note("[x] " + "word " * 40)
    with output.busy("Loading"):
        pass
    out, err = capsys.readouterr()
    assert out == '{"text": "où"}\n'
    assert err.startswith("[x] word")
    assert err.count("\n") == 1


def test_indented_json_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Long documents are printed for people, and are JSON all the same."""
    output.print_json({"a": [1, 2]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": [1, 2]}
    assert out.count("\n") > 1
