"""The shipped model says what it said when its weights were recorded."""

import json

from tests.worker.models.record_shipped import RECORD, SENTENCES, TARGETS, translations


def test_twenty_sentences_at_wait_3() -> None:
    """Words and delays of each, into both languages; `record_shipped` writes them anew."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    assert len(recorded) == len(SENTENCES) * len(TARGETS)
    assert list(translations()) == recorded
