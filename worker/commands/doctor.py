"""`decalage doctor`: what works on this machine, what does not, and what to do about it."""

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from worker.commands import arguments, output

HELP: Final = "check this machine: packages, device, Redis and the model, with remedies"
EXAMPLES: Final = """\
Examples:
  decalage doctor
  decalage doctor --redis redis://localhost:6379/0 --model Qwen/Qwen2.5-0.5B-Instruct"""

_SIGNS: Final = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage doctor`."""
    arguments.add_redis(parser)
    arguments.add_model(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """0 where all that is needed works, else 1. Starts no broker."""
    output.silence_libraries()
    found = []
    for check in _checks(args):
        found.append(check)
        if not args.json:
            _show(check)
    is_healthy = all(check.status != "failed" for check in found)
    if args.json:
        output.print_json({"ok": is_healthy, "checks": [check.as_json() for check in found]})
    else:
        print(_verdict([check.status for check in found]))
    return 0 if is_healthy else 1


def _checks(args: argparse.Namespace) -> Iterator[Any]:
    from worker.commands import check_machine, check_model, check_redis
    from worker.commands.findings import Finding, guarded

    parts: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("packages", check_machine.packages),
        ("device", check_machine.device),
        ("blas", check_machine.blas),
        ("redis", lambda: check_redis.redis(args.redis)),
        ("model", lambda: check_model.model(args.model)),
    )
    for name, part in parts:
        with output.busy(f"Checking {name}"):
            finding = guarded(name, part)
        yield finding


def _show(check: Any) -> None:
    sign, colour = _SIGNS[check.status]
    try:
        from rich.console import Console
        from rich.text import Text
    except ModuleNotFoundError:  # then that is what the doctor has to say, and it must be able to
        print(f"{sign} {check.name}: {check.text}" + (f"\n    {check.remedy}" if check.remedy else ""), flush=True)
        return
    console = Console(highlight=False)
    body = Text(check.text)
    if check.remedy:
        body.append(f"\n→ {check.remedy}", style=colour)
    prefix = Text.assemble((f"{sign} ", f"bold {colour}"), (f"{check.name:9}", "bold"))
    # Further lines stand below the text, not below the sign.
    for row in body.wrap(console, max(20, console.width - len(prefix))):
        row.rstrip()
        console.print(prefix + row, soft_wrap=True)
        prefix = Text(" " * len(prefix))
    sys.stdout.flush()


def _verdict(statuses: list[str]) -> str:
    failed, warnings = statuses.count("failed"), statuses.count("warning")
    if failed:
        return f"\n{failed} of {len(statuses)} checks failed; → tells what to do."
    if warnings:
        return "\nEverything needed works; → tells what could be better."
    return "\nEverything works. Next: decalage demo"
