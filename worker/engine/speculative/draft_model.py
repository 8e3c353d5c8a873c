"""A smaller model with the same tokenizer that writes ahead of the served model.

It has a lane for each lane of the served model, fed with the tokens read and confirmed there, and samples with the same
noise: models with similar logits draw the same token. All sessions share its passes, one for each token of the longest
proposal.
"""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import assert_never

import msgspec
from msgspec.structs import replace

from worker.core.rows import Deferred, Evicted, Failed, Lane, Row, Tokens, sampled_tokens
from worker.engine.errors import UnsupportedModel
from worker.engine.loading import load, load_vocabulary
from worker.engine.runner import Runner
from worker.engine.text.tokenizer import Vocabulary


class _Follower(msgspec.Struct):
    """The draft model's copy of one lane of the served model."""

    source: list[int] = msgspec.field(default_factory=list)
    num_cached_source: int = 0  # source tokens in the draft model's own lane
    target: list[int] = msgspec.field(default_factory=list)
    cached_target: list[int] = msgspec.field(default_factory=list)  # target tokens in the draft model's own lane

    def follow(self, row: Row) -> None:
        """Add the tokens that the model is fed; drop those of the draft model that differ."""
        # A row that is asked for again, or feeds the model's lane anew, repeats some source.
        self.source += row.source[max(0, len(self.source) - row.source_start) :]
        if not row.target:
            return
        del self.target[row.target_start :]
        self.target += row.target
        num_same = min(row.target_start, len(self.cached_target))
        # With more source, tokens that the model is fed again see more, so feed them again here too.
        if self.num_cached_source == len(self.source):
            behind = zip(self.cached_target[num_same:], self.target[num_same:], strict=False)
            num_same += sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], behind))
        del self.cached_target[num_same:]

    def next_row(self, row: Row, drafts: tuple[int, ...]) -> Row:
        """Return the row to feed the draft model for the token behind these drafts."""
        written = (*self.target, *drafts)
        start = min(len(self.cached_target), len(written) - 1)
        return Row(
            lane=row.lane,
            source=tuple(self.source[self.num_cached_source :]),
            target=written[start:],
            target_start=start,
            num_drafts=0,
            sampling=replace(row.sampling.after(row.drafts + drafts), with_probabilities=False, aligned_from=None),
            is_contiguous=row.is_contiguous,
            source_start=self.num_cached_source,
        )

    def add_drafts(self, drafts: tuple[int, ...]) -> None:
        """Take the proposed tokens as written; the start of the lane's next row tells how many the model kept."""
        self.target += drafts

    def forget_cache(self) -> None:
        """Feed the draft model anew next time, because its lane is lost."""
        self.num_cached_source, self.cached_target = 0, []

    def mark_fed(self, row: Row) -> None:
        """Note that the draft model was fed this row."""
        self.num_cached_source = len(self.source)
        self.cached_target[row.target_start :] = row.target


class DraftModel:
    """A drafter that runs a smaller model. It proposes none of `ends`, the tokens that end a translation."""

    def __init__(self, runner: Runner, ends: frozenset[int]) -> None:
        self.runner = runner
        self._ends = ends
        self._followers: dict[Lane, _Follower] = {}
        self._failed: set[Lane] = set()  # a pass of the draft model failed: these lanes continue without drafts

    @classmethod
    def load(cls, path_or_repo: str, vocabulary: Vocabulary) -> "DraftModel":
        """Load the draft model of that name for a model with this vocabulary.

        Raises ModelNotFound, UnsupportedModel for another tokenizer too.
        """
        model, tokenizer = load(path_or_repo)
        other = load_vocabulary(path_or_repo, tokenizer)
        check_same_tokenizer(vocabulary, other, path_or_repo)
        return cls(Runner(model, other), vocabulary.eos_tokens)

    def propose(self, rows: Sequence[Row]) -> dict[Lane, tuple[int, ...]]:
        """Return the draft model's continuation of each row that may have drafts."""
        for row in rows:
            self._followers.setdefault(row.lane, _Follower()).follow(row)
        asking = [row for row in rows if row.max_proposed and row.lane not in self._failed]
        drafts: dict[Lane, tuple[int, ...]] = {row.lane: () for row in asking}
        while asking:
            asking = [row for row, token in zip(asking, self._next(asking, drafts), strict=True)
                      if token is not None and self._accepts(row, token, drafts)]  # fmt: skip
        for lane, proposed in drafts.items():
            self._followers[lane].add_drafts(proposed)
        return drafts

    def _next(self, rows: Sequence[Row], drafts: dict[Lane, tuple[int, ...]]) -> list[int | None]:
        # One token for each row, in one pass.
        steps = [self._followers[row.lane].next_row(row, drafts[row.lane]) for row in rows]
        tokens: list[int | None] = []
        for step, output in zip(steps, self.runner.run(steps), strict=True):
            match output:
                case Tokens():
                    self._followers[step.lane].mark_fed(step)
                case Evicted():
                    self._followers[step.lane].forget_cache()
                case Failed():
                    self._failed.add(step.lane)
                case Deferred():
                    pass
                case _:
                    assert_never(output)
            tokens.append(next(iter(sampled_tokens(output)), None))
        return tokens

    def _accepts(self, row: Row, token: int, drafts: dict[Lane, tuple[int, ...]]) -> bool:
        if token in self._ends:
            return False
        drafts[row.lane] += (token,)
        return len(drafts[row.lane]) < row.max_proposed

    def drop(self, lanes: Iterable[Lane]) -> None:
        """Forget these lanes, and free their keys and values."""
        gone = [lane for lane in lanes if self._followers.pop(lane, None) is not None]
        self._failed.difference_update(gone)
        if gone:
            self.runner.run((), gone)

    def kv_bytes(self) -> int:
        """Return the bytes of all keys and values held."""
        return self.runner.kv_bytes()


def check_same_tokenizer(vocabulary: Vocabulary, other: Vocabulary, name: str) -> None:
    """Raise UnsupportedModel where a token of the draft model `name` means something else to the model."""
    ours, theirs = vocabulary.tokens(), other.tokens()
    if ours == theirs:
        return
    token = min(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
    raise UnsupportedModel(
        f"the draft model {name} has another tokenizer than the model: token {token} is {theirs.get(token)!r} to it, "
        f"{ours.get(token)!r} to the model; use a smaller model of the same family"
    )
