"""Values of options."""

import argparse
import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import AlignAtt, Policy, WaitK
from worker.commands import arguments


@given(st.integers())
def test_whole_numbers_keep_to_their_bounds(value: int) -> None:
    """A number within the bounds comes out, any other is refused with what was expected and what came."""
    parse = arguments.whole(1, 1000)
    if 1 <= value <= 1000:
        assert parse(str(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match=f"1 to 1000, got '{value}'"):
            parse(str(value))


@pytest.mark.parametrize("text", ["", "x", "1.5", "--", "1e3"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    """Text, fractions and nothing at all are refused in the same words."""
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number of at least 0, got"):
        arguments.whole(0)(text)


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-inf", "-0.1", "1.1", "0"])
def test_numbers_keep_to_their_bounds(text: str) -> None:
    """Not a number, infinity and what lies outside are refused; an open bound is outside."""
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number above 0, at most 1, got"):
        arguments.number(0, 1, is_open=True)(text)
    assert arguments.number(0, 1)("0.5") == 0.5


def test_infinity_is_no_number_of_seconds() -> None:
    """Without an upper bound, infinity is refused all the same."""
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.number(0)("inf")


@pytest.mark.parametrize(("text", "code"), [("fr", "fr"), ("French", "fr"), (" DE ", "de"), ("xx", "xx")])
def test_a_language_by_name_or_code(text: str, code: str) -> None:
    """Both come out as a code."""
    assert arguments.language(text) == code


def test_no_language_is_refused() -> None:
    """An empty value is a usage error."""
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.language(" ")


def test_the_model_of_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """DECALAGE_MODEL counts where --model is not given."""
    monkeypatch.setenv("DECALAGE_MODEL", "owner/name")
    parser = argparse.ArgumentParser()
    arguments.add_model(parser)
    assert parser.parse_args([]).model == "owner/name"
    assert parser.parse_args(["--model", "m"]).model == "m"


@pytest.mark.parametrize("command", ["demo", "send", "live", "bench.mixed"])
@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        (["--pace", "2.5"], "pace", 2.5),
        (["--wait-k", "5"], "policy", WaitK(k=5)),
        (["--policy", "align-att-1-2"], "policy", AlignAtt(k=1, frame_words=2)),
        (["--to", "German"], "to", "de"),
    ],
)
def test_an_option_means_the_same_in_every_command(
    command: str, given: list[str], name: str, value: float | str | Policy
) -> None:
    """One unit and one set of values, whichever command takes it."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"worker.commands.{command}").add_arguments(parser)
    assert getattr(parser.parse_args(given), name) == value


@pytest.mark.parametrize("text", ["wait-0", "tea", ""])
def test_what_is_no_policy_is_refused(text: str) -> None:
    """A name that names none, and numbers that no session may have."""
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.policy(text)
