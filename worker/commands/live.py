"""`decalage live`: a prompt at a time, its words spoken at a pace, the translation beside it as it is written."""

import argparse
import sys
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

from worker.commands import arguments, output

HELP: Final = "type sentences and see each translated while it is 'spoken'"
EXAMPLES: Final = """\
Examples:
  decalage live --to fr
  decalage live --examples --delay 0.2
  echo "Translate to German: Good morning" | decalage live"""

_BUILT_IN: Final = (
    "Translate to French: The weather is nice and we are going to the park.",
    "Translate to German: I do not know where he lives.",
    "Translate to French: Please close the window before you leave the room.",
)
_RULE: Final = "-" * 72


class Request(NamedTuple):
    """A prompt and its k."""

    prompt: str
    wait_k: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The parser knows the options of `decalage live`."""
    arguments.add_model(parser)
    arguments.add_to(parser)
    parser.add_argument(
        "--wait-k", type=arguments.wait_k, default=3, metavar="K", help="k where none is typed (default: 3)"
    )
    parser.add_argument(
        "--delay",
        type=arguments.number(0, 60),
        default=0.3,
        metavar="S",
        help="seconds from one source word to the next, as if it were spoken (default: 0.3)",
    )
    parser.add_argument("--examples", action="store_true", help="show three built-in examples instead of asking")
    arguments.add_json(parser, "one line of JSON for each prompt on stdout, nothing else")


def run(args: argparse.Namespace) -> int:
    """0, after an empty prompt or the end of the input."""
    from worker.commands.translation import load_model

    model = load_model(args.model)
    is_asking = not args.examples and not args.json
    if is_asking:
        print("Type a text such as 'Translate to French: Good morning'. An empty line ends.")
    for request in _examples(args) if args.examples else _asked(args, is_asking):
        if isinstance(request, str):
            _report("invalid_input", request, args)
        else:
            _one(args, model, request)
    return 0


def _one(args: argparse.Namespace, model: Any, request: Request) -> None:
    # What is wrong with one prompt is said, and the next one is asked for.
    from protocol import ProtocolError, WaitK
    from worker.commands.faults import CommandError, fault_of
    from worker.commands.translation import Translation, new_task
    from worker.engine.errors import EngineError

    try:
        task = new_task(model, request.prompt, args.to, policy=WaitK(k=request.wait_k))
        translation = Translation(model, task)
        if args.json:
            translation.finish()
            output.print_json_line({"prompt": request.prompt, "wait_k": request.wait_k, **translation.as_json()})
        else:
            _speak(translation, request.wait_k, args.delay)
    except (CommandError, EngineError, ProtocolError) as error:
        fault = fault_of(error)
        _report(fault.code, fault.message, args)


def _speak(translation: Any, wait_k: int, delay_s: float) -> None:
    """The words appear when a speaker with this pace would have said the source words that they need."""
    print(f"\nStreaming output (wait-k={wait_k}):\n{_RULE}", flush=True)
    start_s = monotonic()
    for word in translation:
        due_s = start_s + word.source_words_read * delay_s
        sleep(max(0.0, due_s - monotonic()))
        print(word.text, end="", flush=True)
    print(f"\n{_RULE}", flush=True)
    print(f"{_figures(translation, monotonic() - start_s)}\n", flush=True)


def _figures(translation: Any, elapsed_s: float) -> str:
    lag = translation.average_lagging
    behind = "" if lag is None else f", {lag:.1f} words behind the speaker"
    speed = f"{translation.words_per_s:.0f} words/s, {translation.tokens_per_s:.0f} tokens/s"
    return f"{len(translation.words)} words in {elapsed_s:.1f} s{behind}\nComputing alone: {speed}"


def _examples(args: argparse.Namespace) -> Iterator[Request]:
    for prompt in _BUILT_IN:
        if not args.json:
            print(f"Prompt> {prompt}", flush=True)
        yield Request(prompt, args.wait_k)


def _asked(args: argparse.Namespace, is_asking: bool) -> Iterator[Request | str]:
    """What is typed: requests, or what is wrong with a k."""
    while True:
        prompt = _read("Prompt> " if is_asking else "")
        if not prompt:
            return
        typed = _read(f"Wait-k (default {args.wait_k})> " if is_asking else "")
        try:
            wait_k = arguments.wait_k(typed) if typed else args.wait_k
        except argparse.ArgumentTypeError as error:
            yield f"wait-k: {error}"
            continue
        yield Request(prompt, wait_k)


def _read(question: str) -> str:
    """A line without its ends; empty at the end of the input."""
    try:
        if sys.stdin.isatty() and question:
            import readline  # noqa: F401  # line editing and history, where there is a keyboard
        line = input(question)
    except EOFError:
        if question:
            print()
        return ""
    if question and not sys.stdin.isatty():
        print(line)  # as a keyboard would have echoed it
    return line.strip()


def _report(code: str, message: str, args: argparse.Namespace) -> None:
    if args.json:
        output.print_json_line({"error": {"code": code, "message": message}})
    else:
        print(f"decalage: error: {message}\n", file=sys.stderr, flush=True)
