"""`python -m worker`."""

import subprocess
import sys
from pathlib import Path


def test_the_package_runs_as_decalage() -> None:
    """`python -m worker` is the program, exit status included."""
    ran = subprocess.run(
        [sys.executable, "-m", "worker", "sned"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("decalage: error: unknown command 'sned'")
