"""`decalage demo` from end to end, on an embedded broker of the test's own."""

import argparse
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from worker.commands import demo
from worker.commands.faults import CommandError
from worker.core.rows import Refused
from worker.io.broker import DIR_VARIABLE, ensure_broker

K = 2
TEXT = "I am here. I live in a small house with my brother. Good night."


@pytest.fixture(scope="module")
def runtime_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where an embedded broker of these tests' own is."""
    path = tmp_path_factory.mktemp("runtime") / "decalage"
    broker = ensure_broker(runtime_dir=path)
    yield path
    with suppress(ProcessLookupError):
        os.kill(broker.pid, signal.SIGTERM)


@pytest.fixture
def here(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands in this process use that broker, and leave logging as it was."""
    monkeypatch.setenv(DIR_VARIABLE, str(runtime_dir))
    monkeypatch.setenv("DECALAGE_METRICS_PORT", "-1")
    monkeypatch.delenv("DECALAGE_REDIS", raising=False)
    yield
    structlog.reset_defaults()


def parse(*arguments: str) -> argparse.Namespace:
    """The options, parsed."""
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def talk(tmp_path: Path) -> str:
    """A short text in a file."""
    path = tmp_path / "talk.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.mark.usefixtures("here")
def test_json_holds_the_whole_talk(talk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but one JSON object: each sentence in order, and no word written before it may be by wait-k."""
    assert demo.run(parse("--fast", "--json", "--file", talk, "--wait-k", str(K))) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [segment["source"] for segment in found["segments"]] == [
        "I am here.",
        "I live in a small house with my brother.",
        "Good night.",
    ]
    for segment in found["segments"]:
        words = segment["words"]
        assert "".join(word["text"] for word in words) == segment["target"] != ""
        reads = [word["source_words_read"] for word in words]
        assert all(read >= min(K + index, segment["source_words"]) for index, read in enumerate(reads))
    assert found["summary"]["target_words"] == sum(segment["target_words"] for segment in found["segments"])
    assert found["summary"]["forwards_per_word"] >= 1
    assert found["policy"] == f"wait-{K}"


@pytest.mark.usefixtures("here")
def test_any_policy_may_write(talk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The session has the policy that the command line names, and the title says so."""
    assert demo.run(parse("--fast", "--file", talk, "--policy", "adaptive-1-4-0.8")) == 0
    first_line, *_ = capsys.readouterr().out.splitlines()
    assert "adaptive-1-4-0.8" in first_line


def test_fast_is_no_pace() -> None:
    """--fast is another word for --pace 0; without either, the speaker takes their time."""
    assert parse("--fast").pace == parse("--pace", "0").pace == 0
    assert parse().pace == 2.5


@pytest.mark.usefixtures("here")
def test_a_refused_language_is_an_error(talk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason reaches the user, before anything is shown of a talk that is not held."""
    with pytest.raises(Refused, match=r"into fr \(French\) or de \(German\), got target_language 'es'"):
        demo.run(parse("--fast", "--file", talk, "--to", "es"))
    assert capsys.readouterr().out == ""


def start(runtime_dir: Path, talk: str, *, stdout: int, term: str = "xterm") -> "subprocess.Popen[bytes]":
    """The demo at an ordinary pace, as a process."""
    environment = os.environ | {DIR_VARIABLE: str(runtime_dir), "TERM": term, "COLUMNS": "80", "LINES": "24"}
    code = (
        "import sys, argparse; from worker.commands import demo; parser = argparse.ArgumentParser();"
        "demo.add_arguments(parser); sys.exit(demo.run(parser.parse_args()))"
    )
    command = [sys.executable, "-c", code, "--file", talk, "--pace", "1"]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL, env=environment)


def test_sigterm_ends_it_on_a_pipe(runtime_dir: Path, talk: str) -> None:
    """Plain lines without control codes; SIGTERM in the middle of a sentence ends it with 143."""
    with start(runtime_dir, talk, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert first_line.decode().startswith("demo: English → French")
    assert b"\x1b" not in first_line + rest


def test_ctrl_c_gives_the_terminal_back(runtime_dir: Path, talk: str) -> None:
    """The screen and the cursor are as before, below them what was said; the status is 130."""
    terminal, stdout = pty.openpty()
    with start(runtime_dir, talk, stdout=stdout) as process:
        os.close(stdout)
        shown = b""
        while b"spoken" not in shown:
            shown += os.read(terminal, 65_536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # how a terminal without processes ends on Linux
            while data := os.read(terminal, 65_536):
                shown += data
    os.close(terminal)
    assert process.returncode == 128 + signal.SIGINT
    assert shown.index(b"\x1b[?1049h") < shown.index(b"\x1b[?1049l")
    assert shown.index(b"\x1b[?25l") < shown.rindex(b"\x1b[?25h")
    assert b"decalage watch demo-" in shown[shown.index(b"\x1b[?1049l") :]


@pytest.mark.parametrize("data", [b"", b" \n\n", b"caf\xe9"])
def test_a_text_without_words_or_in_another_encoding_is_refused(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started, whether it comes from a file or from standard input."""
    path = tmp_path / "talk.txt"
    path.write_bytes(data)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    for name in (str(path), "-"):
        with pytest.raises(CommandError, match="expected"):
            demo.read_sentences(name)


@pytest.mark.parametrize(
    "arguments",
    [("--wait-k", "0"), ("--wait-k", "x"), ("--pace", "-1"), ("--pace", "nan"), ("--fast", "--pace", "1.5")],
)
def test_bad_options_are_usage_errors(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """argparse says which option, and what was expected."""
    with pytest.raises(SystemExit) as exit_:
        parse(*arguments)
    assert exit_.value.code == 2
    assert arguments[0] in capsys.readouterr().err
