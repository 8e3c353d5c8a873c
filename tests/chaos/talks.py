"""The talks of a chaos run: known text for every session, and the manner of its producer."""

import random
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from protocol import (
    Adaptive,
    AlignAtt,
    ClientEvent,
    InputTextAppend,
    InputTextFinalize,
    Limits,
    LocalAgreement,
    Sampling,
    Session,
    SessionClose,
    SessionCreate,
    WaitK,
)

_TEXT: Final = (
    "the old house stands near river where children play every summer and nobody knows who built it when people came "
    "from far away with horses ships letters music bread stories about winter storms they still remember today"
)
_POLICIES: Final = (
    WaitK(k=1),
    WaitK(k=3),
    WaitK(k=5),
    WaitK(k=3, catchup=0.2),
    Adaptive(),
    LocalAgreement(max_ahead_tokens=4),
    AlignAtt(frame_words=1),
)

Manner = Literal["library", "proxied", "raw", "double"]
MANNERS: Final[tuple[Manner, ...]] = ("library", "proxied", "raw", "double")
"""`library`: a Publisher. `proxied`: a Publisher whose replies get lost. `raw`: XADD without numbers and bells.
`double`: XADD with numbers, every event once more, some of them late.
"""


class Talk(msgspec.Struct, frozen=True):
    """The source of one session."""

    session_id: str
    session: Session
    sentences: tuple[tuple[str, ...], ...]
    manner: Manner

    def events(self) -> Iterator[ClientEvent]:
        """Yield the source events, from create to close."""
        yield SessionCreate(session=self.session)
        for sentence in self.sentences:
            for word in sentence:
                yield InputTextAppend(text=word)
            yield InputTextFinalize()
        yield SessionClose()

    @property
    def num_words(self) -> int:
        """Source words."""
        return sum(map(len, self.sentences))


def make_talks(seed: int, num_sessions: int, num_words: int) -> list[Talk]:
    """Make `num_sessions` talks of about `num_words` words each; the same ones for the same seed."""
    dice = random.Random(seed)
    return [_talk(dice, f"chaos-{seed}-{i}", MANNERS[i % len(MANNERS)], num_words) for i in range(num_sessions)]


def _talk(dice: random.Random, session_id: str, manner: Manner, num_words: int) -> Talk:
    sentences = []
    while num_words > 0:
        length = min(num_words, dice.randint(4, 14))
        sentences.append(tuple(dice.choice(_TEXT.split()) for _ in range(length)))
        num_words -= length
    session = Session(
        target_language=dice.choice(("fr", "de")),
        policy=dice.choice(_POLICIES),
        sampling=Sampling(temperature=dice.choice((0.0, 1.0)), seed=dice.randrange(1000)),
        limits=Limits(max_new_words=8, max_tokens_per_word=4),
    )
    return Talk(session_id, session, tuple(sentences), manner)
