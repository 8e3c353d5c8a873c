"""How `decalage bench train` looks: a row for each loop, then what it was measured on."""

from collections.abc import Iterator

from worker.commands.bench.page import Page, Sheet
from worker.commands.bench.train_loop import Speed, Speeds


def page(speeds: Speeds) -> Page:
    """How it looks."""
    work, size = speeds.workload, speeds.num_parameters / 1e6
    what = (
        f"{size:.1f} M parameters in fp32, {work.tokens_per_batch:,} tokens a batch, pairs of about {work.pair_tokens}"
    )
    rows = [_cells("Decalage", speeds.ours)]
    rows += [_cells("plain loop", speeds.torch)] if speeds.torch is not None else []
    sheet = Sheet(("", "tokens/s", "slowest to fastest", "ms a step"), tuple(rows))
    return Page(f"Training {what}", (sheet,), tuple(_notes(speeds)))


def _cells(name: str, speed: Speed) -> tuple[str, ...]:
    span = f"{speed.slowest_tokens_per_s:,.0f} to {speed.fastest_tokens_per_s:,.0f}"
    return f"{name}, {speed.library}", f"{speed.tokens_per_s:,.0f}", span, f"{speed.step_ms:,.0f}"


def _notes(speeds: Speeds) -> Iterator[str]:
    if speeds.torch is None:
        yield "PyTorch is not installed, so there is no baseline; pip install torch gives one."
    else:
        losses = f"{speeds.ours.first_loss:.4f} and {speeds.torch.first_loss:.4f}"
        yield f"{speeds.ratio:.2f} times PyTorch. The first batch's losses agree: {losses}."
    yield f"Medians, steps measured: {speeds.workload.steps}; tokens of source and target, padding left out."
