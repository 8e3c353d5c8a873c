"""`decalage bench table`."""

import asyncio
from pathlib import Path

import pytest

from tests.worker.commands.conftest import Decalage
from tests.worker.evaluation.test_curve import pixels
from worker.commands.bench.table_drafts import Recorder
from worker.commands.bench.table_loop import gain_of
from worker.continuous_batching import AsyncContinuousBatchingEngine, BatchConfig
from worker.core.rows import Engine, Output, Row, SampleSpec, Tokens
from worker.engine.model import StreamingModel
from worker.engine.speculative.draft_model import DraftModel
from worker.engine.text.tokenizer import Vocabulary
from worker.speculative_decoding import SpeculativeConfig, SpeculativeDecodingEngine

pytestmark = pytest.mark.usefixtures("with_model")
OPTIONS = ("bench", "table", "--requests", "4", "--batch", "2")


def test_four_ways(decalage: Decalage, text: str, tmp_path: Path) -> None:
    """Drafts and batches save passes; the ratio is that to the baseline; the document's figures stand beside."""
    picture = tmp_path / "table.png"
    report = decalage(*OPTIONS, "--acceptance", "1", "--file", text, "--plot", str(picture), "--json").json
    baseline, speculative, batching, both = report["methods"]
    assert list(report["theirs"]) == [method["name"] for method in report["methods"]]
    assert baseline["ratio"] == 1
    assert speculative["accepted_drafts"] == both["accepted_drafts"] == 1
    assert baseline["accepted_drafts"] is batching["accepted_drafts"] is None
    passes = [method["passes_per_token"] for method in (baseline, speculative, batching, both)]
    assert passes[0] > max(passes[1], passes[2]) >= min(passes[1], passes[2]) > passes[3] > 0
    for method in report["methods"]:
        assert method["ratio"] == pytest.approx(method["tokens_per_s"] / baseline["tokens_per_s"], rel=0.05)
        assert min(method["latency_ms"], method["gigabytes_per_s"], method["gflops"]) > 0
    assert pixels(picture.read_bytes()) == (1080, 690)


def test_a_shape_keeps_the_drafts_that_come_true(decalage: Decalage, text: str, tiny_shape: str) -> None:
    """Also where a draft model of random weights makes its passes for them."""
    shapes = ("--shape", tiny_shape, "--draft-shape", tiny_shape, "--acceptance", "1")
    methods = decalage(*OPTIONS, *shapes, "--file", text, "--json").json["methods"]
    assert methods[1]["accepted_drafts"] == 1


def test_a_draft_model_of_its_own(decalage: Decalage, text: str) -> None:
    """The model itself is one that is always right."""
    ran = decalage(*OPTIONS, "--draft-model", "starter-draft", "--file", text)
    assert "100%" in ran.out
    assert "Drafts by starter-draft, up to 5 at a time." in ran.out
    assert "What bounds ours" in ran.out


def test_what_drafts_gain(decalage: Decalage, text: str) -> None:
    """Only ways with drafts gain anything; of few rounds, no spread is told."""
    methods = decalage(*OPTIONS, "--rounds", "1", "--acceptance", "1", "--file", text, "--json").json["methods"]
    assert methods[0]["gain"] is methods[2]["gain"] is None
    for baseline, method in (methods[:2], methods[2:]):
        ratio = method["tokens_per_s"] / baseline["tokens_per_s"]
        assert method["gain"] == {"ratio": pytest.approx(ratio, rel=0.01), "low": None, "high": None}


def test_a_gain_is_time_saved() -> None:
    """Half the time is 2, all rounds taken together; the spread is that of the rounds."""
    even = gain_of([(2.0, 1.0)] * 8)
    assert (even.ratio, even.low, even.high) == (2.0, 2.0, 2.0)
    uneven = gain_of([(3.0, 1.0), (1.0, 1.0)] * 4)
    assert uneven.ratio == 2.0
    assert uneven.low
    assert uneven.high
    assert 1 < uneven.low < 2 < uneven.high < 3
    assert str(gain_of([(1.0, 2.0)] * 7)) == "0.50"


def test_drafts_everywhere(decalage: Decalage, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks the clock whether they pay, and the page says so."""
    monkeypatch.setattr("worker.engine.speculative.autotune.learn", None)
    ran = decalage(*OPTIONS, "--everywhere", "--file", text)
    assert (
        "Drafts forced to come true at a rate of 80%, they cost nothing, in every pass, up to 5 at a time." in ran.out
    )
    assert "by the clock" not in ran.out


def test_one_kind_of_drafts(decalage: Decalage) -> None:
    """A draft model has its own acceptance."""
    ran = decalage(*OPTIONS, "--draft-model", "starter-draft", "--acceptance", "0.5", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (1, "invalid_input")


def test_the_names_of_the_document_take_the_same_passes(
    decalage: Decalage,
    text: str,
    small: StreamingModel,
    starter_vocabulary: Vocabulary,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The table drives rows itself, as its forced drafts and random weights have to; for real models that is what
    `generate` and `generate_batch` do, pass for pass. Here drafts are made at all times: else, the clock would tell.
    """
    monkeypatch.setattr("worker.engine.speculative.autotune.DraftAutotune.drafts", True)
    methods = decalage(*OPTIONS, "--draft-model", "starter-draft", "--everywhere", "--file", text, "--json").json[
        "methods"
    ]
    lines = Path(text).read_text().splitlines()
    prompts = [f"Translate to French: {line}" for line in lines] * 2
    counted = []
    for is_drafted in (False, True):
        asked = SpeculativeConfig(
            target_model_path="starter-draft", draft_model_path="starter-draft", use_speculative=is_drafted
        )
        single = SpeculativeDecodingEngine(asked)
        for prompt in prompts:
            single.generate(prompt)
        counted.append(single.stats()["batching_stats"])
    for drafter in (None, DraftModel.load("starter-draft", starter_vocabulary)):
        config = BatchConfig(max_batch_size=2, timeout_ms=0, max_draft_tokens=5 * (drafter is not None))
        many = AsyncContinuousBatchingEngine(small, starter_vocabulary.tokenizer, config, drafter=drafter)
        asyncio.run(many.generate_batch(prompts))
        counted.append(many.stats()["batching_stats"])
    for method, stats in zip(methods, counted, strict=True):
        assert method["passes_per_token"] == pytest.approx(stats["total_batches"] / stats["total_tokens"], abs=1e-3)


class Counting:
    """Samples the number of its passes."""

    passes = 0

    def run(self, rows: list[Row], dropped: object = ()) -> list[Output]:
        """One token for each row that writes."""
        self.passes += 1
        return [Tokens((self.passes,) if row.num_samples else ()) for row in rows]


def test_what_is_written_is_recorded() -> None:
    """Source in chunks, target as it was confirmed, the end left out."""
    engine: Engine = Counting()  # type: ignore[assignment]
    recorder = Recorder(engine, ends=frozenset({3}))
    recorder.run([Row((0, 0), (10, 11), (), 0, 0, SampleSpec())])
    recorder.run([Row((0, 0), (12,), (9,), 0, 0, SampleSpec())])
    recorder.run([Row((0, 0), (), (2,), 1, 0, SampleSpec())])
    assert recorder.lanes == [((10, 11, 12), (9, 2))]
