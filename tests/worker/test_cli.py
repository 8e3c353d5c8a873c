"""The outermost shell: help, choice of the command, and how everything that goes wrong ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from worker import cli
from worker.commands import GROUPS, schema

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [name for group in GROUPS for name in group.commands]


def test_help_tells_every_command_and_two_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """A newcomer sees each command with one sentence, grouped, and what to type first; 80 columns are enough."""
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert all(f"{group.title}:" in out for group in GROUPS)
    assert out.count("\n  decalage ") == 2
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` and `help` of a command tell its options, and end with 0."""
    assert cli.main([name, "--help"]) == 0
    direct = capsys.readouterr().out
    assert cli.main(["help", name]) == 0
    assert capsys.readouterr().out == direct
    assert direct.startswith(f"usage: decalage {name} ")


def test_nothing_given_is_a_usage_error_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`decalage` alone prints the help on stderr and ends with 2."""
    assert cli.main([]) == 2
    assert "Start here:" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints one line that begins with the program's name."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("decalage ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sned"], "did you mean 'send'?"),
        (["xyzzy"], "expected one of demo, up, doctor"),
        (["--json"], "expected a command before '--json'"),
        (["schema", "--asyncap"], "unrecognized arguments: --asyncap"),
        (["generate", "--prompt", "x", "--wait-k", "0"], "--wait-k: expected a whole number, 1 to 1000, got '0'"),
    ],
)
def test_usage_errors_are_one_line_and_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command or option gives one line with the remedy, and exit status 2."""
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("decalage: error: ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "redis://:s3cret@h/0"],
        ["doctor", "--redi", "redis://:s3cret@h/0"],
        ["doctor", "--redis", "redis://:a", "s3cret@h"],
        ["doctor", "redis://:a s3cret b@h"],
        ["redis://:s3cret@h"],
        ["doctor", "--role=redis://:s3cret@h"],
        ["serve", "--metrics-port", "redis://:s3cret@h"],
        ["watch", "--redis=redis://:s3cret@h", "--timeout", "s3cret@h"],
    ],
)
def test_a_usage_error_quotes_no_password(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Where a URL of Redis stands in the wrong place, or in pieces for want of quotes."""
    assert cli.main(arguments) == 2
    said = "".join(capsys.readouterr())
    assert "s3cret" not in said
    assert "error: " in said


def test_a_usage_error_with_json_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json, a program finds the error on stdout."""
    assert cli.main(["compare", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "usage"
    assert json.loads(out)["error"]["message"] in err


def _raise(error: BaseException) -> None:
    raise error


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends a command with 130 and says nothing."""
    monkeypatch.setattr(schema, "run", lambda args: _raise(KeyboardInterrupt()))
    assert cli.main(["schema"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_bug_is_one_line_and_its_traceback_can_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What no user can cause is called a bug, without a traceback unless DECALAGE_TRACEBACK asks for it."""
    monkeypatch.delenv("DECALAGE_TRACEBACK", raising=False)
    monkeypatch.setattr(schema, "run", lambda args: _raise(ZeroDivisionError("oh")))
    assert cli.main(["schema"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: oh" in err
    assert "Traceback" not in err
    monkeypatch.setenv("DECALAGE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["schema"])


def test_a_reader_that_leaves_is_no_error() -> None:
    """`decalage schema | head -1` prints no complaint, and ends with 141."""
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "schema"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], {"mlx", "redis", "rich", "msgspec"}),
        (["schema"], {"mlx", "redis", "rich"}),
        (["send", "--help"], {"mlx", "mlx_lm", "rich"}),
        (["watch", "--help"], {"mlx", "mlx_lm", "rich"}),
        (["generate", "--help"], {"mlx", "redis", "rich"}),
    ],
)
def test_a_command_loads_only_what_it_needs(arguments: list[str], unwanted: set[str]) -> None:
    """`decalage --help` starts in no time, and nothing that needs no model loads mlx."""
    program = (
        "import sys; from worker.cli import main; status = main(sys.argv[1:]); "
        "print(*sys.modules, file=sys.stderr); sys.exit(status)"
    )
    ran = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert not unwanted & set(ran.stderr.split())
