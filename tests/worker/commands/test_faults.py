"""Errors as users get them."""

import sys

import pytest

from producers.errors import BrokerUnreachable, SessionNotFound
from protocol import SequenceGap
from worker.app.config import BadSetting
from worker.commands.faults import CommandError, Fault, fault_of
from worker.core.rows import Refused
from worker.engine.errors import EngineError, ModelNotFound, UnsupportedPrompt
from worker.io.broker import BrokerError
from worker.io.client import RedisUnreachable
from worker.io.health import PortTaken


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("x"), "invalid_input"),
        (CommandError("x", code="special"), "special"),
        (ModelNotFound("x"), "model_not_found"),
        (UnsupportedPrompt("x"), "unsupported_prompt"),
        (EngineError("x"), "engine_error"),
        (RedisUnreachable("x"), "redis_unreachable"),
        (BrokerError("x"), "no_broker"),
        (PortTaken("x"), "port_taken"),
        (BadSetting("x"), "invalid_setting"),
        (Refused("x"), "unsupported_option"),
        (SequenceGap(expected=1, got=2), "sequence_gap"),
        (BrokerUnreachable("redis://h:1/0", "x"), "redis_unreachable"),
        (SessionNotFound("x"), "producer_error"),
        (ExceptionGroup("tasks", [PortTaken("x")]), "port_taken"),
    ],
)
def test_what_users_can_cause_has_a_code(error: Exception, code: str) -> None:
    """Each known error keeps its message and has a code; a group of tasks speaks through its first."""
    leaf = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
    assert fault_of(error) == Fault(code, str(leaf))


def test_a_message_of_several_lines_becomes_one() -> None:
    """An error is one line, whatever its message was."""
    assert fault_of(BrokerError("it said:\n  no\n\n  way")).message == "it said: no way"


@pytest.mark.parametrize(("name", "extra"), [("mlx.core", "worker"), ("lupa", "broker"), ("sacrebleu", "eval")])
def test_a_missing_package_names_the_extra_that_brings_it(name: str, extra: str) -> None:
    """The remedy is the pip command."""
    fault = fault_of(ModuleNotFoundError(f"No module named {name!r}", name=name))
    assert fault.code == "missing_package"
    assert fault.message.endswith(f"pip install 'decalage[{extra}]'")


def test_the_light_install_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mlx, importing it ends in that message."""
    monkeypatch.setitem(sys.modules, "mlx", None)
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    with pytest.raises(ModuleNotFoundError) as caught:
        import mlx.core  # noqa: F401
    assert "decalage[worker]" in fault_of(caught.value).message


def test_files_and_bytes() -> None:
    """A file that is not there is named; bytes that are no text are called so."""
    assert fault_of(FileNotFoundError(2, "No such file or directory", "talk.txt")).message == (
        "talk.txt: No such file or directory"
    )
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xff".decode()
    assert fault_of(caught.value).code == "invalid_input"


def test_anything_else_is_called_a_bug() -> None:
    """With its type, its message, and the way to its traceback."""
    fault = fault_of(KeyError("k"))
    assert fault.code == "internal_error"
    assert "KeyError" in fault.message
    assert "DECALAGE_TRACEBACK=1" in fault.message
