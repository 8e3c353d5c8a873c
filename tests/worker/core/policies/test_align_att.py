"""AlignAtt: who looks at the newest words reads on."""

from protocol import policies as wire
from worker.core.policies import Drawn
from worker.core.policies.align_att import AlignAtt


def test_the_newest_words_are_not_settled() -> None:
    """Of five words read, a frame of two leaves three, and the prompt; a frame of all that was read leaves nothing."""
    policy = AlignAtt(wire.AlignAtt(frame_words=2))

    def may_write(aligned_word: int | None, num_read: int) -> bool:
        return policy.may_write(Drawn(num_read, num_words=0, begins_word=True, aligned_word=aligned_word))

    assert [may_write(word, 5) for word in range(6)] == [True, True, True, True, False, False]
    assert not any(may_write(word, 1) for word in range(2))
    assert may_write(None, 5)
