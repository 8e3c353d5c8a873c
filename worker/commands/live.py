"""`decalage live`: one prompt at a time, its words spoken at a pace, the translation printed as it is written."""

import argparse
import sys
from collections.abc import Iterator
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from worker.commands import arguments, output

if TYPE_CHECKING:
    from protocol import Policy

HELP: Final = "type sentences and see each translated while it is 'spoken'"
EXAMPLES: Final = """\
Examples:
  decalage live --to fr
  decalage live --examples --pace 5
  echo "Translate to German: Good morning" | decalage live"""

_BUILT_IN: Final = (
    "Translate to French: The weather is nice and we are going to the park.",
    "Translate to German: I do not know where he lives.",
    "Translate to French: Please close the window before you leave the room.",
)
_RULE: Final = "-" * 72


class Request(NamedTuple):
    """A prompt and its policy."""

    prompt: str
    policy: "Policy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage live`."""
    arguments.add_model(parser)
    arguments.add_to(parser)
    arguments.add_policy(parser)
    arguments.add_pace(parser, default=arguments.SPEECH_WORDS_PER_S)
    parser.add_argument("--examples", action="store_true", help="show three built-in examples instead of asking")
    arguments.add_json(parser, "one line of JSON for each prompt on stdout, nothing else")


def run(args: argparse.Namespace) -> int:
    """Answer prompts until an empty one or the end of the input; return 0."""
    from worker.commands.translation import load_model

    model = load_model(args.model)
    is_asking = not args.examples and not args.json
    if is_asking:
        print("Type a text such as 'Translate to French: Good morning'. An empty line ends.")
    default = args.policy or model.vocabulary.default_policy
    for request in _examples(args, default) if args.examples else _typed(is_asking, default):
        if isinstance(request, str):
            _report("invalid_input", request, args)
        else:
            _translate(args, model, request)
    return 0


def _translate(args: argparse.Namespace, model: Any, request: Request) -> None:
    # An error ends this prompt only.
    from protocol import ProtocolError
    from worker.commands.faults import CommandError, fault_of
    from worker.commands.translation import Translation, new_task
    from worker.engine.errors import EngineError
    from worker.evaluation.policies import policy_name

    try:
        task = new_task(model, request.prompt, args.to, policy=request.policy)
        translation = Translation(model, task)
        if args.json:
            translation.finish()
            facts = {"prompt": request.prompt, "policy": policy_name(task.session)}
            output.print_json_line({**facts, **translation.as_json()})
        else:
            print(f"\nStreaming output ({policy_name(task.session)}):\n{_RULE}", flush=True)
            _speak(translation, args.pace)
    except (CommandError, EngineError, ProtocolError) as error:
        fault = fault_of(error)
        _report(fault.code, fault.message, args)


def _speak(translation: Any, pace_words_per_s: float) -> None:
    """Print each word at the time when a speaker of this pace has said the source words that it needs."""
    start_s = monotonic()
    for word in translation:
        if pace_words_per_s:
            due_s = start_s + word.source_words_read / pace_words_per_s
            sleep(max(0.0, due_s - monotonic()))
        print(word.text, end="", flush=True)
    print(f"\n{_RULE}", flush=True)
    print(f"{_figures(translation, monotonic() - start_s)}\n", flush=True)


def _figures(translation: Any, elapsed_s: float) -> str:
    lag = translation.average_lagging
    behind = "" if lag is None else f", {lag:.1f} words behind the speaker"
    speed = f"{translation.words_per_s:.0f} words/s, {translation.tokens_per_s:.0f} tokens/s"
    return f"{len(translation.words)} words in {elapsed_s:.1f} s{behind}\nComputing alone: {speed}"


def _examples(args: argparse.Namespace, policy: "Policy") -> Iterator[Request]:
    for prompt in _BUILT_IN:
        if not args.json:
            print(f"Prompt> {prompt}", flush=True)
        yield Request(prompt, policy)


def _typed(is_asking: bool, default: "Policy") -> Iterator[Request | str]:
    """Yield a request for each typed prompt, or the error of its policy."""
    from protocol import policy_name

    while True:
        prompt = _read("Prompt> " if is_asking else "")
        if not prompt:
            return
        typed = _read(f"Wait-k or policy (default {policy_name(default)})> " if is_asking else "")
        try:
            yield Request(prompt, _typed_policy(typed) if typed else default)
        except argparse.ArgumentTypeError as error:
            yield f"policy: {error}"


def _typed_policy(text: str) -> "Policy":
    from protocol import WaitK

    return arguments.policy(text) if "-" in text.strip("-") else WaitK(k=arguments.wait_k(text))


def _read(question: str) -> str:
    """Read a line and strip it; return an empty one at the end of the input."""
    try:
        if sys.stdin.isatty() and question:
            import readline  # noqa: F401  # line editing and history at a keyboard
        line = input(question)
    except EOFError:
        if question:
            print()
        return ""
    if question and not sys.stdin.isatty():
        print(line)  # a terminal would have echoed it
    return line.strip()


def _report(code: str, message: str, args: argparse.Namespace) -> None:
    if args.json:
        output.print_json_line({"error": {"code": code, "message": message}})
    else:
        print(f"decalage: error: {message}\n", file=sys.stderr, flush=True)
