"""`decalage send` and `decalage watch` as processes."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]

_PROGRAM = """
import argparse, importlib, sys
command = importlib.import_module("worker.commands." + sys.argv[1])
command.redis_url = lambda given: sys.argv[2]
parser = argparse.ArgumentParser(prog="decalage " + sys.argv[1])
command.add_arguments(parser)
sys.exit(command.run(parser.parse_args(sys.argv[3:])))
"""


class Outcome(Struct):
    """The output and exit code of a finished process."""

    code: int | None
    out: str
    err: str


async def start(command: str, url: str, *arguments: str) -> Process:
    """Start the command with pipes as its three streams."""
    program = [sys.executable, "-W", "error", "-c", _PROGRAM, command, url, *arguments]
    return await asyncio.create_subprocess_exec(*program, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT)


async def finish(process: Process, stdin: str = "") -> Outcome:
    """Give the process its input and wait for its end."""
    out, err = await process.communicate(stdin.encode())
    return Outcome(process.returncode, out.decode(), err.decode())


async def run(command: str, url: str, *arguments: str, stdin: str = "") -> Outcome:
    """Run the command to its end."""
    return await finish(await start(command, url, *arguments), stdin)
