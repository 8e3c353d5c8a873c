"""The program with standard streams that are closed, full, stalled, or of another encoding."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import sys
from worker import cli
from worker.commands import schema

def body(args):
    {}
    return 0

schema.run = body
sys.exit(cli.main())
"""


def run(code: str, *arguments: str, redirect: str = "", env: dict[str, str] | None = None) -> Any:
    """Run `decalage schema` with this code in its place, its streams redirected by a shell."""
    return subprocess.run(
        [
            "bash",
            "-c",
            f'exec "$0" -c "$1" schema "${{@:2}}" {redirect}',
            sys.executable,
            PROGRAM.format(code),
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, **(env or {})},
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_nowhere(closed: str) -> None:
    """The command runs, reads the end of its input, and ends with 0; its other streams are as they were."""
    ran = run("print([sys.stdin.read()]); print('said', file=sys.stderr)", redirect=f"</dev/null {closed}")
    assert ran.returncode == 0
    assert ran.stdout == (b"" if " >&-" in f" {closed}" else b"['']\n")
    assert ran.stderr == (b"" if "2>&-" in closed else b"said\n")


def test_no_file_gets_the_descriptor_of_a_closed_stream() -> None:
    """Messages would be written into that file."""
    ran = run("print(open('/dev/null').fileno() > 2)", redirect="<&- 2>&-")
    assert ran.stdout == b"True\n"


@pytest.mark.parametrize("full", [">/dev/full", ">/dev/full 2>/dev/full", "1</dev/null"])
def test_an_output_that_takes_nothing(full: str) -> None:
    """It is one line, and exit status 1; never called a bug, and Python has nothing to add."""
    ran = run("print('x')", redirect=full)
    assert ran.returncode == 1
    said = ran.stderr.decode()
    assert said == "" if "2>" in full else said.startswith("decalage: error: cannot write the output: ")
    assert said.count("\n") <= 1


@pytest.mark.parametrize(("redirect", "status"), [(">/dev/full", 1), ("", 0)])
def test_the_help_is_output_too(redirect: str, status: int) -> None:
    """Where it cannot be written, that is told, and the status is not 0."""
    ran = run("pass", "--help", redirect=redirect)
    assert ran.returncode == status
    assert ran.stderr.startswith(b"decalage: error: cannot write the output: ") == (status == 1)


@pytest.mark.parametrize("broken", ["2>/dev/full", "2</dev/null", "2> >(exec true)"])
def test_messages_that_nobody_takes_are_lost(broken: str) -> None:
    """Many of them, of any length: the command goes on."""
    code = "[print('m' * 10_000, file=sys.stderr) for _ in range(40)]; print('done')"
    ran = run(code, redirect=broken)
    assert (ran.returncode, ran.stdout) == (0, b"done\n")


def test_messages_to_a_reader_that_has_stopped_are_lost() -> None:
    """The pipe fills up; the command neither waits for its reader nor fails."""
    end, start = os.pipe()
    try:
        code = "[print('m' * 100, file=sys.stderr) for _ in range(5_000)]; print('done')"
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(code), "schema"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=start,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.read() == b"done\n"
            assert process.wait() == 0
        assert select.select([end], [], [], 0)[0] == [end]
    finally:
        os.close(end)
        os.close(start)


ENCODINGS = [
    ({"PYTHONIOENCODING": "latin-1"}, "latin-1", "soeur café OK\n"),
    ({"PYTHONIOENCODING": "cp1252"}, "cp1252", "sœur café OK\n"),
    ({"PYTHONIOENCODING": "koi8-r"}, "koi8-r", "soeur cafe OK\n"),
    ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "ascii", "soeur cafe OK\n"),
    ({"PYTHONIOENCODING": "utf-8"}, "utf-8", "sœur café OK\n"),
]


@pytest.mark.parametrize(("env", "encoding", "shown"), ENCODINGS)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_cannot_be_encoded_is_replaced(env: dict[str, str], encoding: str, shown: str, stream: str) -> None:
    """By what is nearest in ASCII, on both streams."""
    ran = run(f"print('s\\u0153ur caf\\u00e9 OK', file=sys.{stream})", env=env)
    assert ran.returncode == 0
    assert getattr(ran, stream).decode(encoding) == shown


@pytest.mark.parametrize("env", [env for env, *_ in ENCODINGS])
def test_json_loses_nothing(env: dict[str, str]) -> None:
    """In any encoding that holds ASCII, escapes stand for what it lacks."""
    text = "\u0153 \U0001f600 \u4e16 \u0431"
    ran = run(f"print({json.dumps(json.dumps(text, ensure_ascii=False))})", "--json", env=env)
    encoding = env.get("PYTHONIOENCODING", "ascii")
    assert json.loads(ran.stdout.decode(encoding)) == text
