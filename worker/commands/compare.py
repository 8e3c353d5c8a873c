"""`decalage compare`: one text at several k, side by side."""

import argparse
from typing import Any, Final

from worker.commands import arguments, output

HELP: Final = "translate one text with several wait-k, side by side"
USAGE: Final = "--prompt P [--wait-k K ...] [options]"
EXAMPLES: Final = """\
Examples:
  decalage compare --prompt "Translate to French: The weather is nice and we are going to the park."
  decalage compare --wait-k 1 2 4 8 --to de --prompt "I do not know where he lives.\""""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage compare`."""
    arguments.add_prompt(parser)
    parser.add_argument(
        "--wait-k",
        type=arguments.wait_k,
        nargs="+",
        default=[1, 3, 5],
        metavar="K",
        help="words behind (default: 1 3 5)",
    )
    arguments.add_to(parser)
    arguments.add_model(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the translations; return 0."""
    from protocol import WaitK
    from worker.commands.translation import Translation, load_model, new_task, read_prompt

    prompt = read_prompt(args.prompt)
    model = load_model(args.model)
    translations: dict[int, Any] = {}
    for k in dict.fromkeys(args.wait_k):
        task = new_task(model, prompt, args.to, policy=WaitK(k=k))
        with output.busy(f"Translating with k = {k}"):
            translations[k] = Translation(model, task).finish()
    if args.json:
        output.print_json_line(_as_json(args.model, translations))
    else:
        from worker.commands.compare_table import show

        show(translations)
    return 0


def _as_json(model: str, translations: dict[int, Any]) -> dict[str, Any]:
    source_words = next(iter(translations.values())).task.source_words
    return {
        "model": model,
        "source_words": list(source_words),
        "translations": [{"wait_k": k, **translation.as_json()} for k, translation in translations.items()],
    }
