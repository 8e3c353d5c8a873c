"""How `decalage bench train` looks: a row for each loop, then what it was measured on."""

from collections.abc import Iterator

from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.train_loop import Speed, Speeds


def page(speeds: Speeds) -> Page:
    """How it looks."""
    work, size = speeds.workload, speeds.num_parameters / 1e6
    what = f"{size:.1f} M parameters, {work.tokens_per_batch:,} tokens a batch, pairs of about {work.pair_tokens}"
    loops = _loops(speeds)
    rows = tuple(_cells(name, speed) for name, speed in loops.items())
    sheet = Sheet(("", "tokens/s", "slowest to fastest", "ms a step"), rows)
    lines = {name: _points(speed) for name, speed in loops.items()}
    return Page(f"Training {what}", (sheet,), tuple(_notes(speeds)), Plot("step", "tokens/s", lines))


def _loops(speeds: Speeds) -> dict[str, Speed]:
    named = (("Decalage", speeds.ours), ("Decalage", speeds.bf16), ("plain loop", speeds.torch))
    return {f"{name}, {speed.library}": speed for name, speed in named if speed is not None}


def _points(speed: Speed) -> tuple[tuple[float, float], ...]:
    return tuple((float(step), each) for step, each in enumerate(speed.steps_tokens_per_s, start=1))


def _cells(name: str, speed: Speed) -> tuple[str, ...]:
    span = f"{speed.slowest_tokens_per_s:,.0f} to {speed.fastest_tokens_per_s:,.0f}"
    return name, f"{speed.tokens_per_s:,.0f}", span, f"{speed.step_ms:,.0f}"


def _notes(speeds: Speeds) -> Iterator[str]:
    if speeds.bf16 is None or speeds.torch is None:
        yield "PyTorch is not installed, so there is no baseline: pip install 'decalage[torch]'"
    else:
        losses = ", ".join(f"{speed.first_loss:.4f}" for speed in _loops(speeds).values())
        yield (f"{speeds.ratio:.2f} times the plain loop, and {speeds.bf16_ratio:.2f} times with --device cpu.")
        yield f"The first batch's losses agree: {losses}."
        yield "In fp32, but for the products where bf16 is named."
    yield f"Medians, steps measured: {speeds.workload.steps}; tokens of source and target, padding left out."
