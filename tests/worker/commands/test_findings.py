"""What checks find."""

from worker.commands.findings import Finding, guarded


def _broken() -> Finding:
    raise ModuleNotFoundError("no", name="mlx.core")


def test_whatever_a_check_raises_is_a_finding() -> None:
    """The next check can run, and the remedy is in the text."""
    found = guarded("device", _broken)
    assert (found.name, found.status) == ("device", "failed")
    assert "pip install 'decalage[worker]'" in found.text


def test_as_json() -> None:
    """All fields are there, also the empty ones."""
    assert Finding("redis", "ok", "fine").as_json() == {
        "name": "redis",
        "status": "ok",
        "text": "fine",
        "remedy": "",
        "facts": {},
    }
