"""`decalage live`."""

import contextlib
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.commands.conftest import Decalage

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, with_model: None) -> "pytest.MonkeyPatch":
    """The model is loaded, and no speaker makes the test wait."""
    monkeypatch.setattr("worker.commands.live.sleep", lambda seconds: None)
    return monkeypatch


def test_prompts_are_answered_until_an_empty_one(decalage: Decalage, typed: pytest.MonkeyPatch) -> None:
    """Prompt, k, translation, figures; an empty prompt ends, and what follows it is not read."""
    typed.setattr(
        "sys.stdin", io.StringIO("Translate to German: I am here.\n2\nTranslate to French: Good morning.\n\n\nno")
    )
    ran = decalage("live")
    assert ran.status == 0
    assert ran.out.count("Prompt> ") == 3
    assert ran.out.count("Wait-k or policy (default adaptive-2-6-0.6)> ") == 2
    assert "(wait-2)" in ran.out
    assert "Ich bin hier." in ran.out
    assert "Bonjour" in ran.out
    assert ran.out.count("words/s") == 2
    assert ran.err == ""


def test_errors_keep_the_loop_going(decalage: Decalage, typed: pytest.MonkeyPatch) -> None:
    """A prompt that the model cannot follow and a k that is none are told; the next prompt is answered."""
    typed.setattr("sys.stdin", io.StringIO("Hello\n\nHello\n0\nTranslate to German: I am here.\n\n"))
    ran = decalage("live")
    assert ran.status == 0
    assert "begin the prompt with 'Translate to French:'" in ran.err
    assert "policy: expected a whole number, 1 to 1000, got '0'" in ran.err
    assert "Ich bin hier." in ran.out


def test_words_wait_for_the_speaker(decalage: Decalage, typed: pytest.MonkeyPatch) -> None:
    """A word appears once the source words that it needs could have been said, at --pace words a second."""
    waits: list[float] = []
    typed.setattr("worker.commands.live.sleep", waits.append)
    typed.setattr("worker.commands.live.monotonic", lambda: 100.0)
    typed.setattr("sys.stdin", io.StringIO("The weather is nice and we are here.\n2\n"))
    decalage("live", "--to", "fr", "--pace", "2")
    assert waits[:3] == pytest.approx([1.0, 1.5, 2.0])


def test_json_lines(decalage: Decalage, typed: pytest.MonkeyPatch) -> None:
    """With --json, one line for each prompt, translation or error, and no questions."""
    typed.setattr("sys.stdin", io.StringIO("Translate to German: I am here.\n3\nHello\n"))
    found = [json.loads(line) for line in decalage("live", "--json").out.splitlines()]
    assert (found[0]["text"], found[0]["policy"]) == ("Ich bin hier.", "wait-3")
    assert found[1]["error"]["code"] == "unsupported_prompt"


def test_any_policy_may_be_given_or_typed(decalage: Decalage, typed: pytest.MonkeyPatch) -> None:
    """--policy is the default; what is typed wins, a number as wait-k or a policy's name; another name is told."""
    prompt = "Translate to German: I am here.\n"
    typed.setattr("sys.stdin", io.StringIO(f"{prompt}\n{prompt}2\n{prompt}align-att-1-2\n{prompt}wait-for-it\n"))
    lines = decalage("live", "--policy", "adaptive-1-4-0.8", "--json").out.splitlines()
    found = [json.loads(line) for line in lines]
    assert [fact["policy"] for fact in found[:3]] == ["adaptive-1-4-0.8", "wait-2", "align-att-1-2"]
    assert "wait-for-it" in found[3]["error"]["message"]


def test_three_examples(decalage: Decalage, typed: pytest.MonkeyPatch) -> None:
    """--examples needs nobody at the keyboard."""
    ran = decalage("live", "--examples", "--pace", "0")
    assert ran.status == 0
    assert ran.out.count("Prompt> Translate to") == 3
    assert ran.out.count("words/s") == 3


def test_it_works_in_a_pipe() -> None:
    """The real program, its input piped: the translation comes out, and nothing on stderr."""
    ran = subprocess.run(
        [sys.executable, "-m", "worker", "live", "--pace", "0"],
        input="Translate to French: Good morning.\n",
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Bonjour" in ran.stdout


def test_ctrl_c_at_the_prompt_is_quiet() -> None:
    """Whoever leaves with Ctrl-C sees no traceback; the exit status is 130."""
    command = [sys.executable, "-m", "worker", "live"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
        while process.stdout.read(1) != b">":
            pass
        for _ in range(20):  # a signal just before the read begins is seen by Python only after it: press again
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
                break
        assert process.stderr.read() == b""
        assert process.wait() == 130
