"""`decalage`: finds the command, parses its options, and turns whatever goes wrong into one line and an exit status.

    0  done        1  it failed, the line on stderr says why
    2  usage       130  Ctrl-C       141  the reader of a pipe has gone

Loads only the standard library; a command loads what it needs.
"""

import argparse
import difflib
import importlib
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

USAGE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141

_INTRODUCTION = (
    "Decalage translates while the sentence is still being spoken: words go into a Redis stream, translated words "
    "come out of another, a few words behind."
)
_FIRST_STEPS = """\
Examples:
  decalage demo
  decalage generate --streaming --to fr --prompt "Where is the station?"

`decalage COMMAND --help` tells the options of a command."""


_PRIVATE = re.compile(r"\S*://.*@\S*|\S*(?:://|@)\S*")  # what may be a URL of Redis, or a part of one: with a password


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option as an error of `decalage`, in one line."""

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)  # argparse would say nothing of an output that cannot be written

    def error(self, message: str) -> NoReturn:
        raise _Usage(f"{message.removeprefix('argument ')} (see `{self.prog} --help`)")


class _Usage(Exception):
    code = "usage"

    def __init__(self, message: str) -> None:
        super().__init__(_PRIVATE.sub("URL", message))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of `decalage` with these arguments (those of the process, if not given)."""
    from worker.io import standard_streams

    given = list(_own_arguments() if arguments is None else arguments)
    if arguments is None:
        standard_streams.prepare(as_json="--json" in given)
    try:
        status = _run(given)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # the shell's prompt begins on a line of its own
        return INTERRUPTED
    except BrokenPipeError:
        standard_streams.discard_stdout()
        return BROKEN_PIPE
    except _Usage as error:
        _report(error.code, str(error), as_json="--json" in given)
        return USAGE
    except Exception as error:  # the outermost border: users get a line, never a traceback
        return _fail(error, as_json="--json" in given)


def _own_arguments() -> list[str]:
    # The arguments of the process as UTF-8, whatever the locale; the names of files stay as the system knows them.
    return [arg if os.path.exists(arg) else os.fsencode(arg).decode("utf-8", "surrogateescape") for arg in sys.argv[1:]]


def _run(given: list[str]) -> int:
    name, rest = (given[0], given[1:]) if given else ("", [])
    match name:
        case "":
            print(_help(), file=sys.stderr)
            return USAGE
        case "-h" | "--help":
            print(_help())
            return 0
        case "--version":
            print(f"decalage {_version()}")
            return 0
        case "help":
            return _run([*rest[:1], "--help"])
    command = _command(name)
    parser = _Parser(
        prog=f"decalage {name}",
        usage=f"decalage {name} {getattr(command, 'USAGE', '[options]')}",
        description=command.HELP,
        epilog=getattr(command, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    try:
        return int(command.run(parser.parse_args(rest)))
    except SystemExit as exit_:  # argparse, after --help
        return exit_.code if isinstance(exit_.code, int) else 0


def _command(name: str) -> ModuleType:
    if name not in _names():
        if name.startswith("-"):
            raise _Usage(f"expected a command before {name!r}; `decalage --help` lists them")
        close = difflib.get_close_matches(name, _names(), n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(_names())}"
        raise _Usage(f"unknown command {name!r}: {remedy} (see `decalage --help`)")
    return importlib.import_module(f"worker.commands.{name}")


def _names() -> list[str]:
    from worker.commands import GROUPS

    return [name for group in GROUPS for name in group.commands]


def _help() -> str:
    from worker.commands import GROUPS

    width = min(shutil.get_terminal_size().columns, 100)
    margin = 2 + max(map(len, _names())) + 2
    lines = ["usage: decalage COMMAND [options]", "", *textwrap.wrap(_INTRODUCTION, width)]
    for group in GROUPS:
        lines += ["", f"{group.title}:"]
        for name in group.commands:
            text = f"  {name}".ljust(margin) + _command(name).HELP
            lines += textwrap.wrap(text, width, subsequent_indent=" " * margin, drop_whitespace=True)
    return "\n".join([*lines, "", _FIRST_STEPS])


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("decalage")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its source)"


def _fail(error: Exception, *, as_json: bool) -> int:
    from worker.commands.faults import fault_of
    from worker.io import standard_streams

    if os.environ.get("DECALAGE_TRACEBACK"):
        raise error
    fault = fault_of(error)
    try:
        _report(fault.code, fault.message, as_json=as_json)
        sys.stdout.flush()
    except OSError:  # what failed may be the output itself
        standard_streams.discard_stdout()
    return 1


def _report(code: str, message: str, *, as_json: bool) -> None:
    print(f"decalage: error: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False))
