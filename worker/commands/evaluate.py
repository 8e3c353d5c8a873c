"""`decalage evaluate`: a model on a test set, offline and simultaneous, with everybody's own measures."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from worker.commands import arguments, output
from worker.commands.faults import CommandError
from worker.commands.test_set import languages_of, progress_bar, session_into
from worker.evaluation import defaults

if TYPE_CHECKING:
    from protocol import Session
    from worker.commands.translation import Model
    from worker.evaluation.corpus import Sentence
    from worker.evaluation.report import Report
    from worker.evaluation.run import Run, Translated

HELP: Final = "score a model on a test set: quality, latency and speed under several policies"
USAGE: Final = "--test FILE.tsv[.gz] | --values FILE.tsv --to LANG [--wait-k K ...] [--offline] [options]"
EXAMPLES: Final = """\
Each line of the test set is a source, a tab and its reference. Without a policy, offline and wait-k at k = 1 3 5 7
are measured. --values reports the share of numbers, dates, addresses, names and codes that translations keep.

Examples:
  decalage evaluate --test news.en-fr.tsv.gz --limit 300
  decalage evaluate --test talks.tsv --to de --wait-k 3 --output old
  decalage evaluate --test talks.tsv --to de --wait-k 3 --policy adaptive-1-5-0.9 adaptive-2-7-0.8
  decalage evaluate --values spoken.tsv --to fr --offline --wait-k 3
  decalage evaluate --model ./new --test talks.tsv --to de --wait-k 3 --compare old/wait-3.jsonl"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage evaluate`."""
    from protocol import POLICY_FORMS

    whole = arguments.whole
    arguments.add_model(parser)
    arguments.add_kv_bits(parser)
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--test", type=Path, metavar="FILE", help="test set: TSV, gzipped or not")
    subject.add_argument("--values", type=Path, metavar="FILE", help="TSV: source, values that must survive (a|b)")
    parser.add_argument(
        "--to",
        type=arguments.language,
        metavar="LANG",
        help="target language (default: from a file name such as x.en-fr.tsv)",
    )
    parser.add_argument("--wait-k", type=arguments.wait_k, nargs="+", metavar="K", help="write k words behind")
    parser.add_argument(
        "--policy", type=arguments.policy, nargs="+", default=[], metavar="P", help=f"other policies: {POLICY_FORMS}"
    )
    parser.add_argument("--offline", action="store_true", help="read the whole sentence first")
    parser.add_argument(
        "--oracle", action="store_true", help="run each policy again with earlier words encoded anew after each read"
    )
    parser.add_argument("--limit", type=whole(1), metavar="N", help="only the first N lines")
    parser.add_argument("--seed", type=whole(0), metavar="S", help="with --limit: draw the N lines at random")
    arguments.add_json(parser)
    _add_results(parser)
    _add_pace(parser)


def _add_results(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("results")
    files.add_argument("--output", type=Path, metavar="DIR", help="write POLICY.jsonl, scores.json and curve.png here")
    files.add_argument(
        "--compare", type=Path, metavar="JSONL", help="paired bootstrap against this POLICY.jsonl of an earlier run"
    )
    files.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="draw the results of these earlier --output folders too",
    )


def _add_pace(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pace")
    group.add_argument(
        "--rows",
        type=arguments.whole(1, 4096),
        default=defaults.ROWS,
        metavar="N",
        help="sentences translated together; 1 for the times of a session alone (default: %(default)s)",
    )
    group.add_argument(
        "--word-ms",
        type=arguments.number(0, is_open=True),
        default=defaults.WORD_MS,
        metavar="MS",
        help="length of a spoken source word, for computation-aware latency (default: %(default)g)",
    )
    group.add_argument(
        "--max-new-words",
        type=arguments.whole(1),
        default=defaults.MAX_NEW_WORDS,
        metavar="N",
        help="longest translation in words; a longer one is cut and counted (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the figures and write the files that are wanted; return 0. Raises CommandError."""
    from worker.evaluation.errors import EvaluationError

    _check(args)
    try:
        if args.values is not None:
            return _run_values(args)
        report = _evaluate(args)
    except EvaluationError as error:
        raise CommandError(str(error)) from error
    if args.json:
        from msgspec import to_builtins

        output.print_json_line(to_builtins(report))
        return 0
    from worker.commands.evaluate_table import show

    show(report)
    if args.output is not None:
        output.note(f"Results are in {args.output}")
    return 0


def _run_values(args: argparse.Namespace) -> int:
    from worker.commands.evaluate_values import described, show
    from worker.commands.translation import load_model
    from worker.evaluation.corpus import read_corpus

    corpus = read_corpus(args.values, limit=args.limit, seed=args.seed)
    languages = languages_of(args.values, args.to)
    model = load_model(args.model)
    session = session_into(model, languages, args.max_new_words)
    report = described(args, languages[1], _runs(args, model, session, corpus))
    if not args.json:
        show(report)
        return 0
    from msgspec import to_builtins

    output.print_json_line(to_builtins(report))
    return 0


def _check(args: argparse.Namespace) -> None:
    files = ("output", "compare", "beside", "oracle")
    if args.values is not None and (given := [f"--{name}" for name in files if getattr(args, name)]):
        raise CommandError(f"--values has no references to score; leave {', '.join(given)} out, or give it --test FILE")
    if args.seed is not None and args.limit is None:
        raise CommandError("--seed draws the lines that --limit N leaves; give both, or neither for the whole test set")
    if args.oracle and args.offline and args.wait_k is None and not args.policy:
        raise CommandError(
            "--oracle encodes again after every read of a streaming policy; give it --wait-k K beside --offline"
        )
    if args.beside and args.output is None:
        raise CommandError("--beside draws into the curve.png of --output DIR, which is missing")


def _evaluate(args: argparse.Namespace) -> "Report":
    # Everything that can be wrong with the arguments shows before the first sentence is translated.
    from worker.commands.evaluate_results import compared, described, saved
    from worker.commands.translation import load_model
    from worker.evaluation.corpus import read_corpus
    from worker.evaluation.records import check_same, read_records
    from worker.evaluation.report import check_same_test, read_report

    corpus = read_corpus(args.test, limit=args.limit, seed=args.seed)
    baseline: list[Translated] | None = None
    if args.compare is not None:
        baseline = read_records(args.compare)
        check_same(baseline, corpus)
    earlier = [(folder, read_report(folder)) for folder in args.beside]
    for folder, other in earlier:
        check_same_test(folder, other, args.test.name, num_sentences=len(corpus), seed=args.seed)
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
    languages = languages_of(args.test, args.to)
    model = load_model(args.model)
    runs = _runs(args, model, session_into(model, languages, args.max_new_words), corpus)
    report = described(args, languages, runs)
    if baseline is not None:
        report = compared(report, runs, baseline, args.compare)
    if args.output is not None:
        saved(args.output, report, runs, earlier)
    return report


def _runs(args: argparse.Namespace, model: "Model", session: "Session", corpus: "list[Sentence]") -> "dict[str, Run]":
    from msgspec.structs import replace

    from worker.engine.runner import Runner
    from worker.evaluation.oracle import Oracle
    from worker.evaluation.policies import is_oracle
    from worker.evaluation.run import translate

    runner = Runner(model.engine, model.vocabulary, kv_bits=args.kv_bits or 0)
    found = {}
    with progress_bar() as progress:
        for name, chosen in _policies(args, session).items():
            task = progress.add_task(name, total=len(corpus))

            def advance(task: Any = task) -> None:
                progress.advance(task)

            engine = Oracle(runner) if is_oracle(name) else runner
            translated = translate(engine, model.vocabulary, chosen, corpus, max_rows=args.rows, on_done=advance)
            found[name] = replace(translated, policy=name)
    return found


def _policies(args: argparse.Namespace, session: "Session") -> "dict[str, Session]":
    from protocol import WaitK
    from worker.evaluation.policies import offline, oracle_name, policy_name, streaming

    is_default = args.wait_k is None and not args.offline and not args.policy
    chosen = {}
    for policy in (*(WaitK(k=k) for k in (defaults.WAIT_K if is_default else args.wait_k or ())), *args.policy):
        options = streaming(session, policy)
        chosen[policy_name(options)] = options
        if args.oracle:
            chosen[oracle_name(policy_name(options))] = options
    if args.offline or is_default:
        chosen[policy_name(offline(session))] = offline(session)
    return chosen
