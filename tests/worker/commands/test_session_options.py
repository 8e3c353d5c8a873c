"""Session options on the command line."""

import argparse

import pytest

from protocol import Adaptive, Limits, Sampling, Session, WaitK
from worker.commands.session_options import MAX_BACKLOG_WORDS, add_session_arguments, given_options, session_of


def parsed(*arguments: str) -> argparse.Namespace:
    """The options of this command line."""
    parser = argparse.ArgumentParser()
    add_session_arguments(parser)
    return parser.parse_args(arguments)


def test_without_options_a_session_translates_sentences_to_french() -> None:
    """The documented defaults, and a backlog that takes a book."""
    assert session_of(parsed()) == Session(
        target_language="fr", segmentation="sentence", limits=Limits(max_backlog_words=MAX_BACKLOG_WORDS)
    )
    assert given_options(parsed()) == []


def test_every_option_has_its_place() -> None:
    """What is given arrives in the session, and is named as it was written, wait-k as the policy that it is."""
    line = "--to de --from fr --prompt P --wait-k 5 --segmentation manual --temp 0.5 --top-p 0.9 --seed 7 "
    line += "--repetition-penalty 1.1 --repetition-context-size 9 --max-new-words 4 --max-tokens-per-word 6"
    args = parsed(*line.split())
    assert session_of(args) == Session(
        source_language="fr",
        target_language="de",
        prompt="P",
        segmentation="manual",
        policy=WaitK(k=5),
        sampling=Sampling(temperature=0.5, top_p=0.9, seed=7, repetition_penalty=1.1, repetition_context_size=9),
        limits=Limits(max_new_words=4, max_tokens_per_word=6, max_backlog_words=MAX_BACKLOG_WORDS),
    )
    written = line.replace("--wait-k", "--policy").split()
    assert sorted(given_options(args)) == sorted(part for part in written if part.startswith("--"))


def test_any_policy_has_a_name() -> None:
    """--policy names one with its numbers, in place of --wait-k."""
    args = parsed("--policy", "adaptive-2-9-0.8")
    assert session_of(args).policy == Adaptive(min_k=2, max_k=9, threshold=0.8)
    assert given_options(args) == ["--policy"]


def test_a_prompt_chooses_its_language_itself() -> None:
    """With a prompt and no --to, no target language contradicts it."""
    assert session_of(parsed("--prompt", "Translate to German:")).target_language is None


@pytest.mark.parametrize("line", ["--wait-k 0", "--temp -1", "--top-p 2", "--seed -3", "--max-new-words 0"])
def test_bad_values_are_usage_errors(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing reaches a broker that the protocol would refuse."""
    with pytest.raises(SystemExit) as exit_:
        parsed(*line.split())
    assert exit_.value.code == 2
    assert line.split()[0] in capsys.readouterr().err
