"""`decalage generate`."""

import io
from typing import Any

import pytest

from tests.worker.commands.conftest import Decalage
from worker.core.rows import Output
from worker.engine.runner import Runner

PROMPT = "Translate to French: The weather is nice and we are going to the park."

pytestmark = pytest.mark.usefixtures("with_model")


def test_the_text_is_on_stdout_and_its_figures_on_stderr(decalage: Decalage) -> None:
    """stdout holds the translation alone, so that it can be piped on."""
    ran = decalage("generate", "--prompt", PROMPT)
    assert ran.status == 0
    assert ran.out.startswith("Le temps est")
    assert ran.out.count("\n") == 1
    assert "11 source words read" in ran.err
    assert "tokens/s" in ran.err


def test_streaming_reads_k_words_ahead(decalage: Decalage) -> None:
    """With --streaming, target word t has seen k + t source words, never more than there are."""
    facts = decalage("generate", "--streaming", "--wait-k", "2", "--prompt", PROMPT, "--json").json
    read = [word["source_words_read"] for word in facts["words"]]
    assert read == [min(2 + t, 11) for t in range(len(read))]
    assert (facts["mode"], facts["policy"]) == ("streaming", "wait-2")


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("adaptive-1-7-0.9", "Le temps est chouette"),
        ("wait-3~0.2", "Le temps est chouette"),
        ("local-agreement-2-16", "Le temps est"),
    ],
)
def test_streaming_by_another_policy(decalage: Decalage, policy: str, text: str) -> None:
    """--policy names it; with a threshold that nothing reaches, adaptive waits as long as it may."""
    facts = decalage("generate", "--streaming", "--policy", policy, "--prompt", PROMPT, "--json").json
    read = [word["source_words_read"] for word in facts["words"]]
    assert facts["policy"] == policy
    assert facts["text"].startswith(text)
    assert read == sorted(read)
    assert read[0] < 11
    late = decalage("generate", "--streaming", "--policy", "adaptive-1-4-1", "--prompt", PROMPT, "--json").json
    assert late["words"][0]["source_words_read"] <= 4


@pytest.mark.parametrize("options", [(), ("--json",), ("--streaming",)])
def test_an_answer_without_words(decalage: Decalage, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    """It is no success: the status and a line say so."""
    monkeypatch.setattr("worker.library.words.generate_words", lambda *_, **__: iter(()))
    ran = decalage("generate", "--prompt", PROMPT, *options)
    assert ran.status == 1
    assert "wrote no words" in ran.err
    assert not ran.out or ran.json["error"]["code"] == "no_words"


def test_a_draft_model_changes_nothing(decalage: Decalage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words with --draft-model, which makes passes of its own."""
    plain = decalage("generate", "--prompt", PROMPT, "--json").json
    runners = set()
    run = Runner.run

    def watched(self: Runner, *args: Any, **options: Any) -> tuple[Output, ...]:
        runners.add(id(self))
        return run(self, *args, **options)

    monkeypatch.setattr(Runner, "run", watched)
    drafted = decalage("generate", "--prompt", PROMPT, "--draft-model", "starter", "--json").json
    assert drafted["words"] == plain["words"]
    assert len(runners) >= 2


def test_a_policy_is_for_streaming(decalage: Decalage) -> None:
    """Without --streaming nothing is written while reading, and no policy is ignored silently."""
    ran = decalage("generate", "--policy", "wait-2", "--prompt", PROMPT)
    assert ran.status == 1
    assert "--streaming" in ran.err


def test_one_policy_at_a_time(decalage: Decalage) -> None:
    """--wait-k and --policy together are a usage error: neither wins silently."""
    ran = decalage("generate", "--streaming", "--policy", "wait-2", "--wait-k", "5", "--prompt", PROMPT)
    assert ran.status == 2
    assert "not allowed with" in ran.err


def test_completion_reads_everything_first(decalage: Decalage) -> None:
    """Without --streaming each word has seen the whole source; the object tells all of it."""
    facts = decalage("generate", "--prompt", PROMPT, "--json").json
    assert {word["source_words_read"] for word in facts["words"]} == {11}
    assert (facts["mode"], facts["policy"], facts["finish_reason"]) == ("completion", None, "stop")
    assert facts["text"] == " ".join(word["word"] for word in facts["words"])
    assert facts["num_tokens"] == sum(len(word["tokens"]) for word in facts["words"])
    assert facts["generation_tps"] > 0
    assert (facts["source_words"], facts["target_words"]) == (11, len(facts["words"]))


def test_the_prompt_can_come_from_stdin(decalage: Decalage, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--prompt -` reads it there."""
    monkeypatch.setattr("sys.stdin", io.StringIO("I do not know where he lives.\n"))
    assert "weiß" in decalage("generate", "--prompt", "-", "--to", "German").out


def test_a_limit_ends_the_text(decalage: Decalage) -> None:
    """--max-new-words bounds the words, and the outcome says so."""
    facts = decalage("generate", "--prompt", PROMPT, "--max-new-words", "2", "--json").json
    assert (facts["target_words"], facts["finish_reason"]) == (2, "length")


def test_a_seed_gives_the_same_words_again(decalage: Decalage) -> None:
    """Sampling depends on the seed alone."""
    options = ("generate", "--streaming", "--prompt", PROMPT, "--temp", "1.5", "--top-p", "0.9", "--json")
    first, again, other = (decalage(*options, "--seed", seed).json["text"] for seed in ("1", "1", "2"))
    assert first == again != other


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--prompt", "Hello"], "unsupported_prompt", "--to fr gives one"),
        (["--prompt", "Hello", "--to", "xx"], "unsupported_prompt", "fr (French) or de (German)"),
        (["--prompt", "Summarize this: a"], "unsupported_prompt", "this model only translates"),
        (["--prompt", PROMPT, "--to", "de"], "invalid_input", "the prompt asks for French, --to for German"),
        (["--prompt", "Translate to French:"], "invalid_input", "has no words to translate"),
        (["--prompt", "  "], "invalid_input", "the prompt is empty"),
        (["--prompt", PROMPT, "--model", "nope"], "model_not_found", "no model directory or GGUF file 'nope'"),
    ],
)
def test_errors(options: list[str], code: str, said: str, decalage: Decalage) -> None:
    """What the model cannot do, and what it cannot be asked, is one line and exit status 1; with --json an object."""
    ran = decalage("generate", *options, "--json")
    assert ran.status == 1
    assert ran.json["error"]["code"] == code
    assert said in ran.json["error"]["message"]
    assert ran.err == f"decalage: error: {ran.json['error']['message']}\n"
