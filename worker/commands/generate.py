"""`decalage generate`: the answer to one prompt, after reading all of it or while reading."""

import argparse
from typing import Any, Final

from worker.commands import arguments, output
from worker.commands.faults import CommandError
from worker.commands.session_options import limits_of, sampling_of

HELP: Final = "answer one prompt; with --streaming, write while still reading"
USAGE: Final = "--prompt P [options]"
EXAMPLES: Final = """\
Examples:
  decalage generate --prompt "Translate to French: Where is the station?"
  decalage generate --streaming --wait-k 2 --to de --prompt "Where is the station?"
  cat letter.txt | decalage generate --to fr --prompt - --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage generate`."""
    arguments.add_model(parser)
    parser.add_argument(
        "--draft-model", metavar="M", help="a smaller model with the same tokenizer, for the same words in fewer passes"
    )
    arguments.add_prompt(parser)
    arguments.add_to(parser)
    parser.add_argument("--streaming", action="store_true", help="write while reading, not after all of it")
    arguments.add_policy(parser)
    arguments.add_json(parser)
    arguments.add_sampling(parser)


def run(args: argparse.Namespace) -> int:
    """Print the text and its figures; return 0. Raises CommandError, also where the model writes nothing."""
    from worker.commands.translation import Translation, load_model, new_task, read_prompt, with_drafter
    from worker.evaluation.policies import policy_name

    if args.policy and not args.streaming:
        raise CommandError("--wait-k and --policy say when to write while reading; give them together with --streaming")
    prompt = read_prompt(args.prompt)
    model = load_model(args.model)
    if args.draft_model is not None:
        model = with_drafter(model, args.draft_model)
    translation = Translation(model, new_task(model, prompt, args.to, **_options(args)))
    if args.json:
        _check_words(translation.finish())
        facts: dict[str, Any] = {
            "model": args.model,
            "mode": translation.task.session.mode,
            "policy": policy_name(translation.task.session) if args.streaming else None,
        }
        output.print_json_line({**facts, **translation.as_json()})
        return 0
    for word in translation:
        print(word.text, end="", flush=True)
    _check_words(translation)
    print(flush=True)
    output.note(_summary(translation, is_streaming=args.streaming))
    return 0


def _check_words(translation: Any) -> None:
    if not translation.words:
        raise CommandError(
            "the model wrote no words for this prompt; use an instruction-tuned model, or another prompt",
            code="no_words",
        )


def _options(args: argparse.Namespace) -> dict[str, object]:
    return {
        "mode": "streaming" if args.streaming else "completion",
        "policy": args.policy,
        "sampling": sampling_of(args),
        "limits": limits_of(args),
    }


def _summary(translation: Any, *, is_streaming: bool) -> str:
    read = translation.words[-1].source_words_read if translation.words else 0
    parts = [
        f"{read} source words read",
        f"{len(translation.words)} words written",
        f"{translation.num_tokens} tokens",
        f"{translation.tokens_per_s:.0f} tokens/s",
    ]
    if is_streaming and translation.average_lagging is not None:
        parts.append(f"lag {translation.average_lagging:.1f} words")
    if translation.finish_reason == "length":
        parts.append("cut at a limit")
    return " · ".join(parts)
