"""`decalage doctor`: checks of this machine, each with a remedy for its failure."""

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
    parser.add_argument(
        "--role",
        choices=("worker", "producer", "subscriber", "gateway"),
        help="try only what this one does in Redis, for a login of its own (default: all of them)",
    )
    arguments.add_model(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run all checks, without starting a broker; return 1 if one failed, else 0."""
    output.silence_libraries()
    findings = []
    for finding in _findings(args):
        findings.append(finding)
        if not args.json:
            _show(finding)
    is_healthy = all(finding.status != "failed" for finding in findings)
    if args.json:
        output.print_json({"ok": is_healthy, "checks": [finding.as_json() for finding in findings]})
    else:
        print(_verdict([finding.status for finding in findings]))
    return 0 if is_healthy else 1


def _findings(args: argparse.Namespace) -> Iterator[Any]:
    from worker.commands import check_machine, check_model, check_redis
    from worker.commands.findings import Finding, guarded

    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("packages", check_machine.packages),
        ("device", check_machine.device),
        ("blas", check_machine.blas),
        ("redis", lambda: check_redis.redis(args.redis, args.role)),
        ("model", lambda: check_model.model(args.model)),
    )
    for name, check in checks:
        with output.busy(f"Checking {name}"):
            finding = guarded(name, check)
        yield finding


def _show(finding: Any) -> None:
    sign, colour = _SIGNS[finding.status]
    try:
        from rich.console import Console
        from rich.text import Text
    except ModuleNotFoundError:  # rich is missing, and the doctor must be able to report that
        remedy = f"\n    {finding.remedy}" if finding.remedy else ""
        print(f"{sign} {finding.name}: {finding.text}{remedy}", flush=True)
        return
    console = Console(highlight=False)
    body = Text(finding.text)
    if finding.remedy:
        body.append(f"\n→ {finding.remedy}", style=colour)
    prefix = Text.assemble((f"{sign} ", f"bold {colour}"), (f"{finding.name:9}", "bold"))
    # Indent further lines to the text, not to the sign.
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
