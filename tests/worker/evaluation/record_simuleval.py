"""Write simuleval_values.json beside this file: the values of SimulEval's own scorers for random schedules.

Run it in an environment of its own; the tests only read the file:

    python3 -m venv simuleval-venv
    simuleval-venv/bin/pip install simuleval==1.1.4
    simuleval-venv/bin/python tests/worker/evaluation/record_simuleval.py
"""

import json
import random
from importlib import import_module, metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

METRICS: Final = ("AL", "LAAL", "AP", "DAL")
PATH: Final = Path(__file__).with_name("simuleval_values.json")
SOURCE_WORD_MS: Final = 300


def schedule(dice: random.Random) -> dict[str, Any]:
    """Draw one sentence: lengths, non-decreasing delays in words, and times in milliseconds that include computing."""
    source_length, target_length, num_words = (dice.randint(1, 25) for _ in range(3))
    delays = sorted(dice.randint(1, source_length) for _ in range(num_words))
    if dice.random() < 0.3:  # wait-k
        k = dice.randint(1, 9)
        delays = [min(k + i, source_length) for i in range(num_words)]
    computed_ms, elapsed = 0.0, []
    for delay in delays:
        computed_ms += round(dice.expovariate(1 / 40), 3)
        elapsed.append(round(delay * SOURCE_WORD_MS + computed_ms, 3))
    return {"source_length": source_length, "target_length": target_length, "delays": delays, "elapsed_ms": elapsed}


def values(found: dict[str, Any], scorers: dict[str, Any], *, is_computation_aware: bool) -> dict[str, float]:
    """Return SimulEval's value of each metric; computation-aware ones measure the source in milliseconds of speech."""
    source_length = found["source_length"] * (SOURCE_WORD_MS if is_computation_aware else 1)
    instance = SimpleNamespace(
        delays=found["delays"],
        elapsed=found["elapsed_ms"],
        source_length=source_length,
        reference="",
        reference_length=found["target_length"],
    )
    return {name: scorers[name](computation_aware=is_computation_aware).compute(instance) for name in METRICS}


def main() -> None:
    """Write the file."""
    scorers = import_module("simuleval.evaluator.scorers.latency_scorer").LATENCY_SCORERS_DICT
    dice = random.Random(20)
    lines = []
    for _ in range(100):
        found = schedule(dice)
        found["words"] = values(found, scorers, is_computation_aware=False)
        found["ms"] = values(found, scorers, is_computation_aware=True)
        lines.append(json.dumps(found))
    head = json.dumps({"simuleval": metadata.version("simuleval"), "source_word_ms": SOURCE_WORD_MS})
    PATH.write_text(f'{head[:-1]}, "schedules": [\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
