"""`decalage train`."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.worker.commands.conftest import Decalage
from worker.commands.train_view import Stop
from worker.training.loop import Trainer

ROWS = [("I see boats.", "je vois des bateaux."), ("you see apples.", "tu vois des pommes."), ("only one column",)]
SMALL = ["--hidden", "16", "--layers", "1", "--heads", "2", "--mlp", "16", "--vocab", "270", "--max-positions", "64"]
Options = list[str]


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """A run of three steps over two rows and a bad one, as options."""
    data, out = tmp_path / "a.tsv", tmp_path / "model"
    data.write_text("".join("\t".join(row) + "\n" for row in ROWS))
    files = ["--train", f"{data}@fr:2", "--valid", str(data), "--to", "French"]
    return ["train", *files, "--out", str(out), "--steps", "3", *SMALL]


def test_it_writes_a_model_that_generates(options: Options, tmp_path: Path, decalage: Decalage) -> None:
    """Notes go to stderr, with bad rows by their reason; the directory is a model for every other command."""
    ran = decalage(*options, "--wait-k", "2", "full")
    assert (ran.status, ran.out) == (0, "")
    assert "2 rows into fr; left out: 1 fewer than two columns" in ran.err
    assert "step 1 of 3: loss" in ran.err
    assert "tokens/s" in ran.err
    assert "(k = full)" in ran.err
    model = str(tmp_path / "model")
    written = decalage("generate", "--model", model, "--to", "fr", "--prompt", "I", "--max-new-words", "1", "--json")
    assert written.status == 0 or written.json["error"]["code"] == "no_words"


def test_events_as_json_lines(options: Options, decalage: Decalage) -> None:
    """With --json each event is a line on stdout, and nothing else is."""
    events = [json.loads(line) for line in decalage(*options, "--json").out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[:3] == ["data", "data", "step"]
    assert (kinds.count("step"), kinds.count("saved")) == (3, 2)
    step = events[kinds.index("step")]
    assert {"loss", "wait_k", "learning_rate", "gradient_norm", "tokens_per_s", "left_s"} <= step.keys()


def test_a_time_limit_ends_it_ready_to_resume(options: Options, tmp_path: Path, decalage: Decalage) -> None:
    """Nothing is done in no time; --resume and --out alone go on, with the recipe of the checkpoint."""
    ran = decalage(*options, "--time-limit", "0")
    resume = ["train", "--resume", "--out", str(tmp_path / "model")]
    assert ran.status == 0
    assert "Stopped at step 0 of 3: decalage " + " ".join(resume) in ran.err
    again = decalage(*resume, "--json")
    steps = [event["step"] for line in again.out.splitlines() if (event := json.loads(line))["event"] == "step"]
    assert steps == [1, 2, 3]


def test_ctrl_c_saves_and_ends_with_130(
    options: Options, tmp_path: Path, decalage: Decalage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that is being computed counts; the checkpoint and the model are there."""
    average = Trainer._average

    def interrupted(self: Trainer) -> None:
        average(self)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_average", interrupted)
    before = signal.getsignal(signal.SIGINT)
    ran = decalage(*options)
    assert ran.status == 130
    assert "Stopped at step 1 of 3" in ran.err
    assert {"checkpoint.safetensors", "model.safetensors"} <= {path.name for path in (tmp_path / "model").iterdir()}
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_at_once() -> None:
    """Once stopping, the old handlers are back, and stay when it is asked again."""
    before = signal.getsignal(signal.SIGINT)
    with Stop() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"--train": None}, "invalid_input", "--train missing; a new run needs"),
        ({"--steps": None, "--valid": None}, "invalid_input", "--valid, --steps missing"),
        ({"--to": None}, "invalid_data", "names no target language"),
        ({"--train": "gone.tsv"}, "file_error", "gone.tsv: No such file"),
        ({"--to": "Klingon"}, "invalid_data", "two or three letters"),
        ({"--vocab": "100"}, "invalid_data", "got 100"),
        ({"--heads": "3"}, "training_error", "twice --heads"),
        (
            {"--steps": "1 --from starter"},
            "invalid_input",
            "--from starter brings its own --hidden, --layers, ",
        ),
        (
            {"--steps": "1 --draft-of starter"},
            "invalid_input",
            "--draft-of starter brings its own --vocab: leave",
        ),
    ],
)
def test_errors(changed: dict[str, str | None], code: str, said: str, options: Options, decalage: Decalage) -> None:
    """What is missing or cannot be used is one line with the remedy, and exit status 1."""
    for name, value in changed.items():
        at = options.index(name)
        options[at : at + 2] = [] if value is None else [name, *value.split()]
    if changed.get("--to"):
        options[options.index("--train") + 1] = options[options.index("--valid") + 1]
    ran = decalage(*options, "--json")
    assert ran.status == 1
    assert ran.json["error"]["code"] == code
    assert said in ran.json["error"]["message"]


def test_adapters_of_a_model(options: Options, tmp_path: Path, decalage: Decalage) -> None:
    """Its options reach the recipe, and what comes out is a model for every other command."""
    decalage(*options)
    options = options[: -len(SMALL)]
    old, new = str(tmp_path / "model"), str(tmp_path / "tuned")
    options[options.index("--out") + 1] = new
    adapters = ["--lora", "2", "--lora-layers", "1", "--lora-scale", "4", "--lora-dropout", "0.1"]
    assert decalage(*options, "--from", old, *adapters).status == 0
    assert " ".join(adapters[:2]) in (tmp_path / "tuned" / "README.md").read_text()
    written = decalage("generate", "--model", new, "--to", "fr", "--prompt", "I", "--max-new-words", "1", "--json")
    assert written.status == 0 or written.json["error"]["code"] == "no_words"


@pytest.mark.parametrize(
    ("adapters", "code", "said"),
    [
        (["--lora", "2"], "training_error", "name it with --from"),
        (["--lora-layers", "2"], "invalid_input", "give --lora RANK too"),
        (["--lora-dropout", "0.1", "--from", "starter"], "invalid_input", "--lora-dropout is of adapters"),
        (
            ["--lora", "2", "--lora-layers", "7", "--from", "starter"],
            "training_error",
            "at most 5, the layers of starter",
        ),
    ],
)
def test_adapters_of_nothing(adapters: list[str], code: str, said: str, options: Options, decalage: Decalage) -> None:
    """Adapters need a model and a rank, and no more layers than it has: one line with the remedy."""
    if "--from" in adapters:
        options = options[: -len(SMALL)]
    ran = decalage(*options, *adapters, "--json")
    assert ran.status == 1
    assert ran.json["error"]["code"] == code
    assert said in ran.json["error"]["message"]


def test_dropout_reaches_the_recipe(options: Options, tmp_path: Path, decalage: Decalage) -> None:
    """It stands in the model's README; a share that leaves nothing is a usage error."""
    assert decalage(*options, "--dropout", "0.1").status == 0
    assert "--dropout 0.1" in (tmp_path / "model" / "README.md").read_text()
    assert decalage(*options, "--dropout", "1").status == 2


def test_a_device_of_pytorch_needs_it(options: Options, decalage: Decalage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is missing, one line names the extra that installs it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    ran = decalage(*options, "--device", "cpu", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (1, "missing_package")
    assert "pip install 'decalage[torch]'" in ran.json["error"]["message"]


def test_a_model_goes_on_or_drafts(options: Options, tmp_path: Path, decalage: Decalage) -> None:
    """--draft-of reaches the recipe; beside --from it is a usage error."""
    at = options.index("--vocab")
    del options[at : at + 2]
    assert decalage(*options, "--draft-of", "starter").status == 0
    assert "--draft-of starter" in (tmp_path / "model" / "README.md").read_text()
    assert decalage(*options, "--draft-of", "starter", "--from", "starter").status == 2


@pytest.mark.parametrize("value", ["0", "half", "-1"])
def test_a_k_is_a_number_or_full(value: str, options: Options, decalage: Decalage) -> None:
    """Anything else is a usage error."""
    assert decalage(*options, "--wait-k", value).status == 2


def test_a_pack_is_all_that_a_run_needs(options: Options, tmp_path: Path, decalage: Decalage) -> None:
    """--pack instead of --out writes it, --from-pack trains without the files, and --resume goes on from it."""
    at = options.index("--out")
    packed, out = str(tmp_path / "packed"), str(tmp_path / "model")
    assert decalage(*options[:at], *options[at + 2 :], "--pack", packed, "--augment", "0.5", "0.5", "0.5").status == 0
    Path(options[options.index("--train") + 1].partition("@")[0]).unlink()
    run = ["train", "--from-pack", packed, "--out", out, "--wait-k", "2", "--steps", "3"]
    assert "Stopped at step 0 of 3" in decalage(*run, "--time-limit", "0").err
    again = decalage("train", "--resume", "--out", out, "--json")
    assert [json.loads(line)["event"] for line in again.out.splitlines()].count("step") == 3
    packing, training = (
        (tmp_path / "model" / "README.md")
        .read_text()
        .split("decalage train --pack PACK")[1]
        .split("decalage train --from-pack PACK --out MODEL")
    )
    assert "--augment 0.5 0.5 0.5" in packing
    assert "--pack-epochs 1" in packing
    assert "--steps" not in packing
    assert "--steps 3" in training
    assert "--train" not in training


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--from-pack", "packed", "--steps", "3"], "give --out DIR"),
        (["--pack", "a", "--out", "b", "--steps", "3"], "give --out DIR"),
        (["--from-pack", "packed", "--out", "b"], "--steps missing"),
        (["--from-pack", "packed", "--out", "b", "--steps", "3", "--pack-epochs", "2"], "give that, or leave them out"),
        (["--from-pack", "packed", "--train", "x.tsv@fr", "--out", "b", "--steps", "3"], "brings its own data"),
        (["--finish", "--resume", "--out", "b"], "give --resume and --time-limit S too"),
        (["--from-pack", "nowhere", "--out", "b", "--steps", "3"], "nowhere/pack.safetensors is not there"),
    ],
)
def test_options_that_do_not_fit(given: list[str], said: str, decalage: Decalage) -> None:
    """One line tells what is missing, or what to leave out."""
    ran = decalage("train", *given)
    assert ran.status == 1
    assert said in ran.err
