"""Which modules come to mlx before a fast BLAS is loaded, where mlx would load its own."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_PROGRAM = """
import argparse, importlib, os, sys

class Stop:
    def find_spec(self, name, *_):
        if name == "mlx.core":
            os._exit("worker.engine.blas" not in sys.modules)

sys.meta_path.insert(0, Stop())
is_run = sys.argv[1] == "run"
for name in sys.argv[2:]:
    child = os.fork()
    if not child:
        module = importlib.import_module(name)
        if is_run:
            parser = argparse.ArgumentParser()
            module.add_arguments(parser)
            module.run(parser.parse_args([]))
        os._exit(is_run)
    if os.waitpid(child, 0)[1]:
        print(name)
"""


def mlx_before_blas(names: Iterable[str], *, is_run: bool = False) -> list[str]:
    """Return those of the modules that import mlx first, each in a process that stops there.

    With `is_run` they are commands, which are run, and one that never comes to mlx counts too.
    """
    program = [sys.executable, "-c", _PROGRAM, "run" if is_run else "import", *names]
    root = Path(__file__).parents[2]
    ran = subprocess.run(program, capture_output=True, text=True, check=True, cwd=root)
    assert not ran.stderr
    return ran.stdout.split()
