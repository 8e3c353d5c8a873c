"""The shipped model says what it said when its weights were recorded."""

import json

from tests.worker.models.record_shipped import RECORD, SENTENCES, TARGETS, translations
from worker import SpeculativeConfig, SpeculativeDecodingEngine


def test_twenty_sentences() -> None:
    """Words and delays of each with its own policy, into both languages; `record_shipped` writes them anew."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    assert len(recorded) == len(SENTENCES) * len(TARGETS)
    assert list(translations()) == recorded


def test_its_draft_model_is_right_more_often_than_not() -> None:
    """Whole sentences come out as without drafts, and most of what was drafted for them came true."""
    plain, drafted = (
        SpeculativeDecodingEngine(SpeculativeConfig(draft_model_path=draft)) for draft in (None, "starter-draft")
    )
    prompts = [f"Translate to {language}: {text}" for language in ("French", "German") for text in SENTENCES]
    assert [str(drafted.generate(prompt)) for prompt in prompts] == [str(plain.generate(prompt)) for prompt in prompts]
    assert drafted.stats()["speculative_stats"]["acceptance_rate"] > 0.5
