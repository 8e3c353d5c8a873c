"""`decalage evaluate`."""

import json
from pathlib import Path

import pytest

from tests.worker.commands.conftest import Decalage

LINES = (
    ("Where is the station?", "Où est la gare ?"),
    ("I do not know where he lives.", "Je ne sais pas où il habite."),
    ("Thank you.", "Merci."),
    ("The weather is nice and we are going to the park.", "Il fait beau et nous allons au parc."),
)

pytestmark = pytest.mark.usefixtures("with_model")


@pytest.fixture
def test_set(tmp_path: Path) -> str:
    """Four sentences; the file's name tells the languages."""
    path = tmp_path / "talk.en-fr.tsv"
    path.write_text("".join(f"{source}\t{reference}\n" for source, reference in LINES), encoding="utf-8")
    return str(path)


def test_the_default_is_five_policies(decalage: Decalage, test_set: str) -> None:
    """Wait-1, 3, 5, 7 and offline, into the language of the file's name; more lag, and offline all of it."""
    report = decalage("evaluate", "--test", test_set, "--json").json
    assert (report["model"], report["test"], report["target_language"]) == ("starter", "talk.en-fr.tsv", "fr")
    policies = report["policies"]
    assert [found["policy"] for found in policies] == ["wait-1", "wait-3", "wait-5", "wait-7", "offline"]
    for measure in ("al", "laal", "dal"):  # AP also grows with what is written
        lags = [found["latency_words"][measure] for found in policies]
        assert lags == sorted(lags)
    assert policies[-1]["latency_words"]["al"] == pytest.approx(sum(len(s.split()) for s, _ in LINES) / 4)
    assert policies[-1]["latency_ca_ms"]["al"] > 300 * policies[-1]["latency_words"]["al"]
    assert policies[-1]["bleu"]["value"] > policies[0]["bleu"]["value"]
    assert "tok:13a" in policies[0]["bleu"]["signature"]


def test_the_words_are_those_of_generate(decalage: Decalage, test_set: str, tmp_path: Path) -> None:
    """A line of POLICY.jsonl has the words and the delays that `decalage generate` gives for its source."""
    decalage("evaluate", "--test", test_set, "--wait-k", "3", "--limit", "2", "--output", str(tmp_path / "out"))
    lines = (tmp_path / "out" / "wait-3.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    for line in map(json.loads, lines):
        options = ("--streaming", "--wait-k", "3", "--to", "fr", "--json")
        single = decalage("generate", *options, "--prompt", line["source"]).json
        assert line["prediction"] == single["text"]
        assert line["delays"] == [word["source_words_read"] for word in single["words"]]


def test_people_get_tables(decalage: Decalage, test_set: str, tmp_path: Path) -> None:
    """A row for each policy, none twice, then the signatures; where the files are is on the other stream."""
    out = tmp_path / "out"
    ran = decalage("evaluate", "--test", test_set, "--wait-k", "2", "2", "--offline", "--output", str(out))
    assert ran.status == 0
    for word in ("BLEU", "chrF", "AL", "LAAL", "AP", "DAL", "words/s", "AL_CA", "nrefs:1|case:mixed"):
        assert word in ran.out
    assert ran.out.count("wait-2") == ran.out.count("offline") == 2
    assert "--rows 32" in ran.out
    assert "Results are in" in ran.err
    assert {path.name for path in out.iterdir()} == {"wait-2.jsonl", "offline.jsonl", "scores.json", "curve.png"}


def test_fewer_bits_are_told(decalage: Decalage, test_set: str) -> None:
    """Beside the model's name; eight of them change few words."""
    options = ("evaluate", "--test", test_set, "--wait-k", "3", "--json")
    exact, packed = decalage(*options).json, decalage(*options, "--kv-bits", "8").json
    assert packed["model"] == "starter (8-bit keys and values)"
    scores = [report["policies"][0]["chrf"]["value"] for report in (exact, packed)]
    assert scores[1] == pytest.approx(scores[0], abs=15)


def test_results_are_compared(decalage: Decalage, test_set: str, tmp_path: Path) -> None:
    """By paired bootstrap with an earlier file, in one curve with an earlier folder; equal results do not differ."""
    old, new = tmp_path / "old", tmp_path / "new"
    decalage("evaluate", "--test", test_set, "--wait-k", "3", "--output", str(old))
    again = ("evaluate", "--test", test_set, "--wait-k", "3", "1", "--compare", str(old / "wait-3.jsonl"))
    shown = decalage(*again, "--output", str(new), "--beside", str(old)).out
    report = json.loads((new / "scores.json").read_bytes())
    same, worse = report["differences"]["wait-3"], report["differences"]["wait-1"]
    assert [found["metric"] for found in same] == ["BLEU", "chrF2"]
    assert {found["p_value"] for found in same} == {1.0}
    assert worse[0]["system"] < worse[0]["baseline"] == same[0]["system"]
    assert (new / "curve.png").read_bytes() != (old / "curve.png").read_bytes()
    assert "paired bootstrap" in shown
    assert "seed:12345" in shown


def test_the_oracle_stands_beside_its_policy(decalage: Decalage, test_set: str, tmp_path: Path) -> None:
    """A line of its own in the table, behind the policy that it re-encodes, and a file of its own."""
    args = ("evaluate", "--test", test_set, "--wait-k", "2", "--oracle", "--offline", "--output", str(tmp_path))
    assert "wait-2-oracle" in decalage(*args).out
    assert (tmp_path / "wait-2-oracle.jsonl").exists()
    policies = json.loads((tmp_path / "scores.json").read_bytes())["policies"]
    assert [found["policy"] for found in policies] == ["wait-2", "wait-2-oracle", "offline"]


def test_a_limit_takes_first_lines_and_a_seed_draws(decalage: Decalage, test_set: str, tmp_path: Path) -> None:
    """As the file of results tells."""
    limited = ("evaluate", "--test", test_set, "--wait-k", "9", "--limit", "1")
    decalage(*limited, "--output", str(tmp_path / "first"))
    assert json.loads((tmp_path / "first" / "wait-9.jsonl").read_bytes())["line"] == 1
    found = decalage(*limited, "--seed", "1", "--output", str(tmp_path / "drawn"), "--json").json
    assert found == json.loads((tmp_path / "drawn" / "scores.json").read_bytes())
    assert (found["num_sentences"], found["limit"], found["seed"]) == (1, 1, 1)


def test_a_translation_can_be_cut(decalage: Decalage, test_set: str, tmp_path: Path) -> None:
    """And is then counted as such."""
    args = ("evaluate", "--test", test_set, "--offline", "--max-new-words", "2", "--output", str(tmp_path))
    assert "3 translations cut at a limit" in decalage(*args).out
    assert json.loads((tmp_path / "scores.json").read_bytes())["policies"][0]["num_cut"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", "1"), "--limit N"),
        (("--beside", "old"), "--output DIR"),
        (("--oracle", "--offline"), "--wait-k K"),
        (("--to", "es"), "target_language 'es'"),
        (("--compare", "{here}"), "line 1: expected a sentence as"),
        (("--test", "{folder}/missing.tsv"), "missing.tsv"),
        (("--test", "{folder}/plain.tsv", "--limit", "1"), "--to fr gives"),
        (("--test", "{folder}/plain.tsv", "--to", "fr"), "line 2: expected two columns"),
    ],
)
def test_what_cannot_be_evaluated_is_told(
    decalage: Decalage, test_set: str, arguments: tuple[str, ...], message: str
) -> None:
    """In one line, before anything is translated."""
    folder = Path(test_set).parent
    (folder / "plain.tsv").write_text("Yes.\tOui.\nNo.\n", encoding="utf-8")
    given = [part.format(here=test_set, folder=folder) for part in arguments]
    ran = decalage("evaluate", "--test", test_set, *given)
    assert ran.status == 1
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert "bug" not in ran.err


def test_results_of_other_sentences_do_not_compare(decalage: Decalage, test_set: str, tmp_path: Path) -> None:
    """Neither a longer file nor a folder of another test set."""
    decalage("evaluate", "--test", test_set, "--wait-k", "3", "--limit", "1", "--output", str(tmp_path / "old"))
    others = (("--compare", "old/wait-3.jsonl"), ("--output", "new", "--beside", "old"))
    for option in others:
        given = [part if part.startswith("--") else str(tmp_path / part) for part in option]
        ran = decalage("evaluate", "--test", test_set, "--wait-k", "3", *given, "--json")
        assert ran.status == 1
        assert ran.json["error"]["code"] == "invalid_input"
    assert not (tmp_path / "new").exists()


def test_values_that_survive(tmp_path: Path, decalage: Decalage) -> None:
    """It reports each policy's share; references' options are usage errors beside it."""
    file = tmp_path / "few.tsv"
    file.write_text("We sold 1,200 cars on March 14.\t1,200|March|14\nCall 555-0163.\t555-0163\n", encoding="utf-8")
    options = ("evaluate", "--values", str(file), "--to", "fr", "--offline", "--wait-k", "3")
    found = decalage(*options, "--json").json
    assert [kept["policy"] for kept in found["policies"]] == ["wait-3", "offline"]
    assert {kept["num_values"] for kept in found["policies"]} == {4}
    assert "Values that survive" in decalage(*options).out
    assert decalage(*options, "--output", str(tmp_path)).status == 1
