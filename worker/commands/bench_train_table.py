"""How `decalage bench train` looks: a row for each loop, then what it was measured on."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.commands import bench_machine
from worker.commands.bench_train_loop import Speed, Speeds


def show(speeds: Speeds) -> None:
    """All of it on stdout."""
    console = Console(highlight=False)
    work, size = speeds.workload, speeds.num_parameters / 1e6
    what = (
        f"{size:.1f} M parameters in fp32, {work.tokens_per_batch:,} tokens a batch, pairs of about {work.pair_tokens}"
    )
    console.print(Text(f"Training {what}"))
    table = Table()
    table.add_column("")
    for name in ("tokens/s", "slowest to fastest", "ms a step"):
        table.add_column(name, justify="right")
    table.add_row(*_cells("Decalage", speeds.ours))
    if speeds.torch is not None:
        table.add_row(*_cells("plain loop", speeds.torch))
    console.print(table)
    for line in _notes(speeds):
        console.print(Text(line, style="dim"), soft_wrap=True)


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
    yield from bench_machine.lines(speeds.machine)
