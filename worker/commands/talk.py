"""The text of the demo, built in or given, as sentences of words."""

from typing import Final, TypeAlias

from worker.core.words import ends_sentence, source_words

Words: TypeAlias = tuple[str, ...]

TALK: Final = """
I live in a small house with my brother. I get up early every morning. I drink a cup of coffee and read the newspaper.
My brother is still asleep. It is a beautiful day. I often go to the park with my dog. There are many children in the
park. An old man is sitting under a tree. I ask him what he is reading. He tells me that it is a book about music. It is
raining now. When we come home, my brother is in the kitchen. He is making a cake for my birthday. I am very tired, so I
go to bed early.
"""
"""A day off in 14 short everyday sentences, which suit a small model; about 40 seconds at 150 words a minute."""


def split_sentences(text: str) -> tuple[Words, ...]:
    """Split `text` into sentences of words; an empty line ends a sentence too, a line break alone does not.

    >>> split_sentences("It rains. I\\nstay.\\n\\nA title\\n\\nEnd")
    (('It', 'rains.'), ('I', 'stay.'), ('A', 'title'), ('End',))
    """
    sentences: list[Words] = []
    for paragraph in _paragraphs(text):
        words = source_words(paragraph)
        start = 0
        for stop, word in enumerate(words, start=1):
            if stop == len(words) or ends_sentence(word, words[stop]):
                sentences.append(tuple(words[start:stop]))
                start = stop
    return tuple(sentences)


def _paragraphs(text: str) -> list[str]:
    paragraphs = [""]
    for line in text.splitlines():
        if line.strip():
            paragraphs[-1] += line + "\n"
        else:
            paragraphs.append("")
    return paragraphs
