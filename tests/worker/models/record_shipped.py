"""Record what the shipped model makes of twenty sentences with its own policy. Run it after a change of weights.

python -m tests.worker.models.record_shipped
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from protocol import Session
from worker.engine.loading import DEFAULT_MODEL, load, load_vocabulary
from worker.evaluation.corpus import Sentence
from worker.evaluation.run import translate
from worker.library.running import runner_of

RECORD: Final = Path(__file__).with_name("shipped.json")
SENTENCES: Final = (
    "Good morning!",
    "I would like a cup of tea, please.",
    "My brother lives in a small village near the sea.",
    "Where did you put the keys?",
    "We have been waiting for the bus for an hour.",
    "She told me that she was tired.",
    "It is going to rain tomorrow.",
    "Can you help me carry these boxes?",
    "They bought a new car last week.",
    "I have never seen such a beautiful garden.",
    "The children are playing in the street.",
    "He forgot to close the door.",
    "How much does this shirt cost?",
    "I do not think that he will come.",
    "Let us meet in front of the station at eight.",
    "The soup is too hot to eat.",
    "If I had more time, I would learn to play the piano.",
    "Nobody knows what happened to him.",
    "Open the window before you start to cook.",
    "Thank you for everything you have done for us.",
)
TARGETS: Final = ("fr", "de")


def translations() -> Iterator[dict[str, object]]:
    """Yield each sentence in each language: its translation and, for each word of it, the source words read."""
    model, tokenizer = load(DEFAULT_MODEL)
    vocabulary = load_vocabulary(DEFAULT_MODEL, tokenizer)
    corpus = [Sentence(i, text, text) for i, text in enumerate(SENTENCES, 1)]
    for target in TARGETS:
        session = Session(target_language=target)
        for sentence in translate(runner_of(model, vocabulary), vocabulary, session, corpus).sentences:
            yield {
                "target": target,
                "source": sentence.source,
                "translation": sentence.prediction,
                "source_words_read": list(sentence.delays),
            }


if __name__ == "__main__":
    RECORD.write_text(json.dumps(list(translations()), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
