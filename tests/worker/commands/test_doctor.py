"""`decalage doctor` and its parts."""

from pathlib import Path

import pytest

from tests.conftest import one_redis
from tests.worker.commands.conftest import Decalage

PARTS = ["packages", "device", "blas", "redis", "model"]

pytestmark = pytest.mark.usefixtures("with_model")


@pytest.fixture(autouse=True)
def _own_runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker of this machine's user is seen."""
    monkeypatch.setenv("DECALAGE_RUNTIME_DIR", str(tmp_path / "none"))
    monkeypatch.delenv("DECALAGE_BROKER", raising=False)


@one_redis
def test_a_healthy_machine(decalage: Decalage, redis_url: str) -> None:
    """All parts are checked, with their figures; nothing failed, so the exit status is 0."""
    ran = decalage("doctor", "--redis", redis_url, "--json")
    assert ran.status == 0
    assert ran.json["ok"] is True
    checks = {check["name"]: check for check in ran.json["checks"]}
    assert list(checks) == PARTS
    assert checks["model"]["facts"]["languages"] == ["fr", "de"]
    assert checks["model"]["facts"]["words_per_s"] > 0
    assert checks["model"]["facts"]["surface_difference"] < 1e-2
    assert checks["redis"]["facts"]["url"] == redis_url
    assert checks["blas"]["facts"]["gflops"] > 0


def test_what_does_not_work_is_told_with_its_remedy(decalage: Decalage) -> None:
    """A Redis that does not answer and a model that is not there fail; the other checks still run; exit status 1."""
    ran = decalage("doctor", "--redis", "redis://127.0.0.1:1", "--model", "nope")
    assert ran.status == 1
    assert "✓ packages" in ran.out
    assert "✗ redis" in ran.out
    assert "✗ model" in ran.out
    assert "2 of 5 checks failed" in ran.out


def test_it_is_readable_at_80_columns(decalage: Decalage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long findings are wrapped under their own text; without --redis no broker is started."""
    monkeypatch.setenv("COLUMNS", "80")
    ran = decalage("doctor")
    lines = ran.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(" " * 11) for line in lines)
    assert "none running; the embedded broker will be" in " ".join(ran.out.split())
