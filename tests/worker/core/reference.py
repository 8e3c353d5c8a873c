"""Every policy on one segment, written down a second time and as naively as possible: no drafts, no state machine.

For target word t: read what the policy needs, at most N + 1 segments, feed the last token again, sample the first token
of the word, which must begin a word, go on to the token that begins the next word, throw that away. At the end of
sequence, and where an adaptive policy is in doubt of a token, or AlignAtt finds that it comes from the newest words:
hold, read one more, write the word anew. Local agreement translates whole prefixes and keeps what two of them share.
"""

from dataclasses import dataclass, field
from math import floor

from protocol import DEFAULT_POLICY, Adaptive, AlignAtt, LocalAgreement, Session, WaitK
from tests.worker.fakes import EOS, FakeModel, FakeVocabulary
from worker.core import sentences, words
from worker.core.normalize import without_pictographs
from worker.core.rows import Prompt, SampleSpec
from worker.core.runaway import MAX_BLANK_TOKENS, ends_in_loop, is_language, min_source_words


@dataclass
class Translation:
    """A translation: bare words, the tokens of each, the source words read for each, and why it ended."""

    words: list[str] = field(default_factory=list)
    tokens: list[tuple[int, ...]] = field(default_factory=list)
    lags: list[int] = field(default_factory=list)
    reason: str = ""


class Reference:
    """One segment and its translation."""

    def __init__(self, model: FakeModel, vocabulary: FakeVocabulary, session: Session, index: int = 0) -> None:
        self.model, self.vocabulary, self.session, self.index = model, vocabulary, session, index
        self.prompt: Prompt = vocabulary.prompt(session).in_layout()
        self.target = list(self.prompt.target)
        self.fed: list[tuple[int, int]] = []
        self.word: list[int] = []  # confirmed tokens of the word that is being written
        self.num_blank, self.is_blank = 0, False  # tokens that became no word; so many that the model has ended
        self.out = Translation()
        self.segments: list[tuple[int, ...]] = []  # prompt, words, end

    def translate(self, source_words: list[str]) -> Translation:
        """Translate a whole segment."""
        if not source_words:
            self.out.reason = "empty"
            return self.out
        if self.prompt.is_translation and not any(is_language(w, self.prompt.source_language) for w in source_words):
            return self._copy(source_words)
        if self.prompt.is_translation and not self.prompt.is_contiguous:
            source_words = list(filter(None, map(without_pictographs, source_words)))
        before, self.source_words = ["", *source_words], source_words
        read = [self.vocabulary.encode_word(word, before[i]) for i, word in enumerate(source_words)]
        segments = self.segments = [self.prompt.source, *read, self.prompt.end]
        total, hold = len(segments) - 1, 0
        guess: list[int] = []
        while not self._is_full():
            need = min(max(self._needed(total), self._bounded(), hold), total)
            source = [token for segment in segments[: need + 1] for token in segment]
            if isinstance(self.session.policy, LocalAgreement) and need < total:
                guess, hold = self._agree(source, guess, need), need + 1
                continue
            found = self._write(source, need, total)
            if found == "end" and need == total:
                self.out.reason = "stop"
                return self.out
            if found == "loop" and need == total:
                break
            is_end = found in ("end", "loop")
            if found == "doubt" or (is_end and max(self._needed(total), self._bounded()) <= need):
                hold = need + 1
        self.out.reason = "length"
        return self.out

    def _needed(self, total: int) -> int:
        words = len(self.out.words)
        match self.session.policy or DEFAULT_POLICY:
            case _ if self.session.mode == "completion":
                return total
            case WaitK(k=k, catchup=catchup):
                return k + words - floor(catchup * words)
            case Adaptive(min_k=k):
                return k + words
            case LocalAgreement(k=k) | AlignAtt(k=k):
                return k

    def _copy(self, source_words: list[str]) -> Translation:
        limit = self.session.limits.max_new_words
        self.out.words = source_words[:limit]
        self.out.tokens = [() for _ in self.out.words]
        self.out.lags = [len(source_words) for _ in self.out.words]
        self.out.reason = "stop" if len(self.out.words) == len(source_words) else "length"
        return self.out

    def _bounded(self) -> int:
        # Source words that one more word needs, so that the translation is not much longer than the source.
        if not self.prompt.is_translation:
            return 0
        written = self.out.words
        is_spaceless = bool(written) and (words.is_spaceless(written[0][0]) or words.is_spaceless(written[-1][-1]))
        return min_source_words(len(written), is_spaceless=is_spaceless)

    def _is_full(self) -> bool:
        limit = self.session.limits.max_new_words
        is_bound = self._bounded() > len(self.segments) - 2
        is_limit = limit is not None and len(self.out.words) >= limit
        return is_bound or is_limit or len(self.target) >= self.prompt.max_target_tokens

    def _loops(self, token: int, source: list[int]) -> bool:
        written = [*self.target[len(self.prompt.target) :], token]
        return self.prompt.is_translation and ends_in_loop(written, source[len(self.prompt.source) :])

    def _next(self, source: list[int], *more: int) -> int:
        self.fed += [(token, len(source)) for token in [*self.target, *more][len(self.fed) :]]
        return self.model.next_token(source, self.fed, self._draw(more, is_first=not self.word and not more))

    def _feed_again(self) -> None:
        # The last token, which now sees the new source; in a contiguous layout, all of the target does.
        self.fed = [] if self.prompt.is_contiguous else self.fed[: len(self.target) - 1]

    def _begins(self, token: int) -> bool:
        text = self.vocabulary.decode(self.word)
        both = self.vocabulary.decode([*self.word, token])
        return bool(text.strip()) and both.startswith(text) and words.starts_word(text, both[len(text) :])

    def _doubts(self, source: list[int], token: int, need: int, total: int) -> bool:
        match self.session.policy:
            case Adaptive(min_k=low, max_k=high, threshold=threshold) if (
                token != EOS and need < total and not self._begins(token)
            ):
                lag = need - len(self.out.words)
                wanted = threshold * (high - lag + bool(self.word)) / max(1, high - low)
                return lag < high and self.model.probability(source, self.fed, token) < wanted
            case AlignAtt(frame_words=frame) if token != EOS and need < total and not self._begins(token):
                newest = sum(map(len, self.segments[: need + 1 - frame])) if need >= frame else 0
                return self.model.aligned(source, self.fed, token) >= newest
        return False

    def _is_early(self, token: int, need: int, total: int) -> bool:
        # More sentences have ended than were read.
        word = self.vocabulary.decode(self.word)
        if not (word.strip() and (token == EOS or self._begins(token))):
            both = self.vocabulary.decode([*self.word, token])
            word = both if both.startswith(word) and both != both.rstrip() else ""
        return need < total and self._is_early_word(word, need)

    def _is_early_word(self, word: str, need: int) -> bool:
        if not self.prompt.is_translation:
            return False
        ended = [text for text in [*self.out.words, word.strip()] if text and sentences.ends_sentence(text)]
        heard = [text for text in self.source_words[:need] if sentences.ends_sentence(text)]
        return bool(word.strip()) and ended[-1:] == [word.strip()] and len(ended) > len(heard)

    def _write(self, source: list[int], need: int, total: int) -> str:
        # One word, and the first token of the next; "end" where the model ended, "doubt" where a word must wait.
        self._feed_again()
        while True:
            token = self._next(source)
            if self._doubts(source, token, need, total):
                self._withdraw()
                return "doubt"
            if self._is_early(token, need, total):
                self._withdraw()
                return "doubt"
            if token == EOS or self._loops(token, source):
                self._drop(need=min(need, total - 1))
                return "end" if token == EOS else "loop"
            if self._begins(token):
                self._publish(min(need, total - 1))
                if self.is_blank:
                    return "loop"
                if len(self.target) + 1 >= self.prompt.max_target_tokens:
                    self.target.append(token)  # it counts, although it is never published
                return ""
            if self._append(token, min(need, total - 1)):
                return "loop" if self.is_blank else ""

    def _append(self, token: int, need: int) -> bool:
        # True where the word was cut.
        self.word.append(token)
        self.target.append(token)
        text = self.vocabulary.decode(self.word)
        is_spaced = bool(text.strip()) and text[-1].isspace()
        is_long = is_spaced or len(self.word) >= self.session.limits.max_tokens_per_word
        if not is_long and len(self.target) < self.prompt.max_target_tokens:
            return False
        self._publish(need)
        return True

    def _agree(self, source: list[int], guess: list[int], need: int) -> list[int]:
        # The next guess: what the model writes behind the tokens that it would write again.
        self._feed_again()
        for expected in guess:
            if self._next(source) != expected:
                break
            text, both = self.vocabulary.decode(self.word), self.vocabulary.decode([*self.word, expected])
            if expected != EOS and self._is_early_word(both if both.startswith(text) else text, need):
                break
            if self._loops(expected, source):
                self._drop(need=need)
                return []
            if self._begins(expected):
                self._publish(need)
                if self.is_blank:
                    return []
                self.word.append(expected)
                self.target.append(expected)
                is_cut = False
            else:
                is_cut = self._append(expected, need)
            if self._bounded() > need or self.is_blank:
                self._withdraw()
                return []
            if self._is_full():
                return []
            if is_cut:
                break
        ahead: list[int] = []
        room = self.prompt.max_target_tokens - len(self.target)
        while len(ahead) < min(self.session.policy.max_ahead_tokens, room):  # type: ignore[union-attr]
            token = self._next(source, *ahead)
            if token == EOS:
                break
            ahead.append(token)
        return ahead

    def _drop(self, *, need: int) -> None:
        if self.vocabulary.decode(self.word).strip():
            self._publish(need)
        else:
            self._withdraw()

    def _withdraw(self) -> None:
        del self.target[len(self.target) - len(self.word) :]
        self.word = []

    def _publish(self, read: int) -> None:
        found = words.target_words(self.vocabulary.decode(self.word))
        limit = self.session.limits.max_new_words
        for i, word in enumerate(found[: None if limit is None else limit - len(self.out.words)]):
            self.out.words.append(word)
            self.out.tokens.append(() if i else tuple(self.word))
            self.out.lags.append(read)
        self.num_blank = 0 if found else self.num_blank + len(self.word)
        self.is_blank = self.prompt.is_translation and self.num_blank >= MAX_BLANK_TOKENS
        self.word = []

    def _draw(self, more: tuple[int, ...], *, is_first: bool) -> SampleSpec:
        sampling = self.session.sampling
        context = sampling.repetition_context_size if sampling.repetition_penalty is not None else 0
        target = [*self.target, *more]
        written = target[len(self.prompt.target) :]
        spaceless = bool(self.out.words) and words.is_spaceless(self.out.words[-1][-1])
        return SampleSpec(
            temperature=sampling.temperature,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed + self.index,
            position=len(target),
            history=tuple(written[len(written) - min(context, len(written)) :]),
            context_tokens=context,
            word_start=is_first and bool(self.out.words) and not spaceless,
        )
