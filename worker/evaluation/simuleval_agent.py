"""The engine as an agent of SimulEval, the field's evaluator, which sends one word at a time and counts the delays:

    simuleval --agent worker/evaluation/simuleval_agent.py --source en.txt --target fr.txt --to fr --policy wait-3

Nothing else imports this module: it needs `simuleval` and `decalage[worker]` in one environment. SimulEval's words
stand between spaces; into a script without them, its `--eval-latency-unit char` counts what can be compared.
"""

import argparse
import os

from simuleval.agents import TextToTextAgent
from simuleval.agents.actions import Action, ReadAction, WriteAction
from simuleval.utils import entrypoint

from protocol import (
    ClientEvent,
    InputTextAppend,
    Limits,
    OutputTextDelta,
    ProtocolError,
    Session,
    SessionClose,
    SessionCreate,
    check,
)
from worker.core.languages import language_code
from worker.core.rows import Engine
from worker.engine.loading import DEFAULT_MODEL, load_vocabulary, model_path
from worker.evaluation import defaults
from worker.evaluation.oracle import Oracle
from worker.evaluation.policies import is_oracle, named
from worker.library.running import load, runner_of
from worker.library.words import LocalSession


@entrypoint
class DecalageAgent(TextToTextAgent):  # type: ignore[misc]  # SimulEval may be missing, and has no types
    """An agent with a session for each sentence: it takes a source word as an event and writes the target words."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Load the model. Raises EngineError for it, ValueError for options that no session may have."""
        self._options = _session(args)
        path = str(model_path(args.model))
        model, tokenizer = load(path)
        self._vocabulary = load_vocabulary(path, tokenizer)
        self._engine: Engine = runner_of(model, self._vocabulary)
        if is_oracle(args.policy):
            self._engine = Oracle(self._engine)
        self._name = args.model
        self._sentence = self._begun()
        super().__init__(args)  # which calls reset

    @staticmethod
    def add_args(parser: argparse.ArgumentParser) -> None:
        """Add the options, which have the names of those of `decalage evaluate`."""
        default = os.environ.get("DECALAGE_MODEL") or DEFAULT_MODEL
        parser.add_argument("--model", default=default, metavar="M", help="model to evaluate (default: %(default)s)")
        parser.add_argument("--to", type=language_code, required=True, metavar="LANG", help="target language")
        parser.add_argument("--source-language", type=language_code, default="en", metavar="LANG", help="of --source")
        parser.add_argument(
            "--policy", default="wait-3", metavar="NAME", help="as results are called (default: %(default)s)"
        )
        parser.add_argument(
            "--max-new-words", type=int, default=defaults.MAX_NEW_WORDS, metavar="N", help="words of a translation"
        )

    def reset(self) -> None:
        """Begin a new sentence and free the lane of the one before."""
        super().reset()
        self._sentence.clear()
        self._sentence = self._begun()
        self._num_read = 0

    def policy(self) -> Action:
        """Write the words that waited for the newest source word; at the source's end, all the rest."""
        source, is_last = self.states.source, self.states.source_finished
        events: list[ClientEvent] = [InputTextAppend(text=word) for word in source[self._num_read :]]
        self._num_read = len(source)
        said = self._sentence.take([*events, SessionClose()] if is_last else events)
        # Bare words: SimulEval splits its input at spaces, and puts one between any two words.
        words = " ".join(event.word for event in said if isinstance(event, OutputTextDelta))
        return WriteAction(words, finished=is_last) if words or is_last else ReadAction()

    def _begun(self) -> LocalSession:
        sentence = LocalSession(self._engine, self._vocabulary, self._name)
        list(sentence.take([SessionCreate(session=self._options)]))  # which refuses what the model cannot do
        return sentence


def _session(args: argparse.Namespace) -> Session:
    session = Session(
        source_language=args.source_language,
        target_language=args.to,
        limits=Limits(max_new_words=args.max_new_words),
    )
    options = named(session, args.policy)
    try:
        check(SessionCreate(session=options))
    except ProtocolError as error:
        raise ValueError(str(error)) from error
    return options
