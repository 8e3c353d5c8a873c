"""`decalage generate`: one text through a model, whole or word by word."""

import argparse
from typing import Any, Final

from worker.commands import arguments, output
from worker.commands.faults import CommandError

HELP: Final = "answer one prompt; with --streaming, write while still reading"
USAGE: Final = "--prompt P [options]"
EXAMPLES: Final = """\
Examples:
  decalage generate --prompt "Translate to French: Where is the station?"
  decalage generate --streaming --wait-k 2 --to de --prompt "Where is the station?"
  cat letter.txt | decalage generate --to fr --prompt - --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The parser knows the options of `decalage generate`."""
    arguments.add_model(parser)
    parser.add_argument(
        "--draft-model", metavar="M", help="a smaller model with the same tokenizer: the same words, in fewer passes"
    )
    arguments.add_prompt(parser)
    arguments.add_to(parser)
    parser.add_argument("--streaming", action="store_true", help="write k words behind the source, not after all of it")
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--wait-k", type=arguments.wait_k, default=3, metavar="K", help="that k, with --streaming (default: 3)"
    )
    when.add_argument(
        "--policy",
        type=arguments.policy,
        metavar="P",
        help="with --streaming: another policy, such as adaptive-1-5-0.9",
    )
    arguments.add_json(parser)
    _add_sampling(parser)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("choice of words")
    whole, number = arguments.whole, arguments.number
    group.add_argument("--max-new-words", type=whole(1), metavar="N", help="words per segment (default: no bound)")
    group.add_argument(
        "--max-tokens-per-word", type=whole(1, 1000), default=50, metavar="N", help="a longer word is cut (default: 50)"
    )
    group.add_argument(
        "--temp", type=number(0, 10), default=0.0, metavar="T", help="temperature; 0 takes the likeliest (default: 0)"
    )
    group.add_argument(
        "--top-p", type=number(0, 1, is_open=True), default=1.0, metavar="P", help="mass to choose from (default: 1)"
    )
    group.add_argument(
        "--repetition-penalty",
        type=number(0, is_open=True),
        metavar="R",
        help="above 1: repeat less (default: off)",
    )
    group.add_argument(
        "--repetition-context-size", type=whole(0), default=20, metavar="N", help="tokens it looks back (default: 20)"
    )
    group.add_argument(
        "--seed", type=whole(0, 2**63 - 1), default=0, metavar="N", help="same seed, same words (default: 0)"
    )


def run(args: argparse.Namespace) -> int:
    """0, once the text and its figures are printed."""
    from protocol import policy_name
    from worker.commands.translation import Translation, load_model, new_task, read_prompt, with_drafter

    if args.policy and not args.streaming:
        raise CommandError("--policy tells how to write while reading; give it together with --streaming")
    prompt = read_prompt(args.prompt)
    model = load_model(args.model)
    if args.draft_model is not None:
        model = with_drafter(model, args.draft_model)
    translation = Translation(model, new_task(model, prompt, args.to, **_options(args)))
    if args.json:
        session = translation.task.session
        facts: dict[str, Any] = {
            "model": args.model,
            "mode": session.mode,
            "policy": policy_name(session.policy) if args.streaming else None,
        }
        output.print_json_line({**facts, **translation.finish().as_json()})
        return 0
    for word in translation:
        print(word.text, end="", flush=True)
    print(flush=True)
    output.note(_summary(translation, is_streaming=args.streaming))
    return 0


def _options(args: argparse.Namespace) -> dict[str, object]:
    from protocol import Limits, Sampling, WaitK

    sampling = Sampling(
        temperature=args.temp,
        top_p=args.top_p,
        repetition_penalty=args.repetition_penalty,
        repetition_context_size=args.repetition_context_size,
        seed=args.seed,
    )
    return {
        "mode": "streaming" if args.streaming else "completion",
        "policy": args.policy or WaitK(k=args.wait_k),
        "sampling": sampling,
        "limits": Limits(max_new_words=args.max_new_words, max_tokens_per_word=args.max_tokens_per_word),
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
