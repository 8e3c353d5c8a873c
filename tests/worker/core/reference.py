"""Wait-k decoding of one segment, written down a second time and as naively as possible: no drafts, no state machine.

For target word t: read min(k + t, N + 1) segments, feed the last token again, sample the first token of the word, which
must begin a word, go on to the token that begins the next word, throw that away. At the end of sequence: hold, read
one more, try again.
"""

from dataclasses import dataclass, field

from protocol import Session
from tests.worker.fakes import EOS, FakeModel, FakeVocabulary
from worker.core import words
from worker.core.ports import Draw, Prompt


@dataclass
class Translation:
    """What came out: bare words, the tokens of each, source words read for each, and why it ended."""

    words: list[str] = field(default_factory=list)
    tokens: list[tuple[int, ...]] = field(default_factory=list)
    lags: list[int] = field(default_factory=list)
    reason: str = ""


class Reference:
    """One segment and its translation."""

    def __init__(self, model: FakeModel, vocabulary: FakeVocabulary, session: Session, index: int = 0) -> None:
        self.model, self.vocabulary, self.session, self.index = model, vocabulary, session, index
        self.prompt: Prompt = vocabulary.prompt(session)
        self.target = list(self.prompt.target)
        self.fed: list[tuple[int, int]] = []
        self.out = Translation()

    def translate(self, source_words: list[str]) -> Translation:
        """The translation of a whole segment."""
        if not source_words:
            self.out.reason = "empty"
            return self.out
        before = ["", *source_words]
        read = [self.vocabulary.encode_word(word, before[i]) for i, word in enumerate(source_words)]
        segments = [self.prompt.source, *read, self.prompt.end]
        total, hold = len(segments) - 1, 0
        while not self._is_full():
            need = min(max(self._needed(total), hold), total)
            source = [token for segment in segments[: need + 1] for token in segment]
            ended = self._write(source, need, total)
            if ended and need == total:
                self.out.reason = "stop"
                return self.out
            if ended and self._needed(total) <= need:
                hold = need + 1
        self.out.reason = "length"
        return self.out

    def _needed(self, total: int) -> int:
        return total if self.session.mode == "completion" else self.session.policy.k + len(self.out.words)

    def _is_full(self) -> bool:
        limit = self.session.limits.max_new_words
        return len(self.target) >= self.prompt.max_target_tokens or (limit is not None and len(self.out.words) >= limit)

    def _write(self, source: list[int], need: int, total: int) -> bool:
        # One word, and the first token of the next; True where the model ended.
        self.fed = self.fed[: len(self.target) - 1]
        word: list[int] = []
        while True:
            self.fed += [(token, len(source)) for token in self.target[len(self.fed) :]]
            token = self.model.next_token(source, self.fed, self._draw(is_first=not word))
            text = self.vocabulary.decode(word)
            more = self.vocabulary.decode([*word, token])
            is_next = more.startswith(text) and words.starts_word(text, more[len(text) :])
            if token == EOS:
                self._drop(word, publish=bool(text.strip()), need=min(need, total - 1))
                return True
            if text.strip() and is_next:
                self._publish(word, min(need, total - 1))
                if len(self.target) + 1 >= self.prompt.max_target_tokens:
                    self.target.append(token)  # it counts, though it is never published
                return False
            word.append(token)
            self.target.append(token)
            if (
                len(word) >= self.session.limits.max_tokens_per_word
                or len(self.target) >= self.prompt.max_target_tokens
            ):
                if self.vocabulary.decode(word).strip():
                    self._publish(word, min(need, total - 1))
                return False

    def _drop(self, word: list[int], *, publish: bool, need: int) -> None:
        if publish:
            self._publish(word, need)
        elif word:
            del self.target[-len(word) :]

    def _publish(self, word: list[int], read: int) -> None:
        self.out.words.append(self.vocabulary.decode(word).strip())
        self.out.tokens.append(tuple(word))
        self.out.lags.append(read)

    def _draw(self, *, is_first: bool) -> Draw:
        sampling = self.session.sampling
        context = sampling.repetition_context_size if sampling.repetition_penalty is not None else 0
        written = self.target[len(self.prompt.target) :]
        spaceless = bool(self.out.words) and words.is_spaceless(self.out.words[-1][-1])
        return Draw(
            temperature=sampling.temperature,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed + self.index,
            position=len(self.target),
            history=tuple(written[len(written) - min(context, len(written)) :]),
            context_tokens=context,
            word_start=is_first and bool(self.out.words) and not spaceless,
        )
