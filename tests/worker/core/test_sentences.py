"""Where sentences end, word by word: other scripts, abbreviations, numbers; and which words wait for the next one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.sentences import Ending, ends, ends_sentence

YES, NO, WAIT = Ending.YES, Ending.NO, Ending.WAIT


def sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of a text whose words are parted by spaces."""
    found, current = [], []
    source = text.split()
    for word, following in zip(source, [*source[1:], ""], strict=True):
        current.append(word)
        if ends_sentence(word, following, language):
            found.append(" ".join(current))
            current = []
    return [*found, " ".join(current)] if current else found


@pytest.mark.parametrize(
    "word",
    [
        *("lives.", "late!", "why?", "what?!", "so…", "so...", ".", "1945.", "I.", "x.", "example.com.", "3.5."),
        *('"Go."', "here.”", "here.’", "ici.»", "«ici.»", "hier.“", "(so.)", "[so!]", "*so.*", "end.'", "so.›"),
        *("पता।", "पता॥", "معلوم۔", "هو؟", "知りません。", "「知りません。」", "『はい』。", "好！", "吗？）", "か｡"),
        *("չգիտեմ։", "չգիտեմ:", "አላውቅም።", "አላውቅም፡፡", "မသိပါဘူး။", "ទេ។", "μένει;", "ན།", "ᠮᠣᠩ᠃", "א׃", "wow‼", "eh⁇"),
        *("か.", "पता.", "집에.", "дома."),
    ],
)
def test_ends_at_once(word: str) -> None:
    """An ordinary end, in any script and behind closing marks, waits for nothing."""
    assert ends(word, None) is YES


@pytest.mark.parametrize(
    "word",
    [
        *("lives", "late,", "so;", "as:", "3.5", "U.S.,", "-", "", "“", "он", "p.m.,", "a.b", "www.a.com", "知", "、"),
        *("Mr.", "Mrs.", "Dr.", "(Dr.", "Prof.", "e.g.", "i.e.", "vs.", "approx.", "Gen.", "Capt."),
    ],
)
def test_never_ends(word: str) -> None:
    """Within a clause, after a title, after `e.g.`: no end, and nothing to wait for."""
    assert ends(word, None) is NO


@pytest.mark.parametrize(
    ("language", "text", "number"),
    [
        ("en", "Did he come? No. He was at home.", 3),
        ("en", "She said no. I left. No. 5 is free.", 3),
        ("en", "The U.S. army is here. He left the U.S. The army stayed.", 3),
        ("en", "We are at home at 8 p.m. on Monday. We left at 8 p.m. Monday evening. It was 9 a.m. He slept.", 4),
        ("en", "J. K. Rowling wrote a book. J.K. Rowling did. So did I. Plan B. We go.", 5),
        ("en", "I met Mr. Brown and Dr. Smith, e.g. in St. Louis vs. ten others. She lives on Main St. He too.", 3),
        ("en", "He works at Apple Inc. Thank you. Acme Corp. makes tea, coffee, etc. and cake.", 3),
        ("en", "On Jan. 5 it rained. It was dry in Dec. The sun shone.", 3),
        ("en", "See fig. 3 on p. 12 in Vol. II of it. I ate a fig. It was good.", 3),
        ("en", "She has a Ph.D. in law. He has a Ph.D. It took years.", 3),
        ("de", "Am 3. Mai kam er. Es waren 20. Er ging am 31. Dezember 1999. Ludwig XIV. war König.", 4),
        ("de", "Ich mag z. B. Tee, d. h. Kaffee nicht. Er wohnt in Nr. 5 usw. und so fort. Hr. Dr. Ott kam.", 3),
        ("de", "J. S. Bach kam im 18. Jh. nach Leipzig. Das war im 18. Jh. Er blieb. Es war 70 n. Chr. zerstört.", 4),
        ("fr", "M. Brun est né en 50 av. J.-C. à Rome. C'est M. Blanc. Il a cité p. ex. le n° 5, etc. Elle rit.", 4),
        ("fr", "Cela date de 50 av. J.-C. Il est parti. En 70 av. J-C. Rome brûla à Ft. Meade.", 3),
        ("es", "El Sr. Pérez vive en EE. UU. desde ayer. La Sra. Gil tiene aprox. 40 años.", 2),
        ("it", "Il Sig. Rossi legge pag. 5, ecc. e dorme. Il Dott. Bianchi no.", 2),
        ("nl", "Dhr. Jansen eet bijv. kaas, d.w.z. brood, enz. Hij slaapt.", 2),
        ("cs", "Přišel 3. května. Bylo jich 20. Odešli.", 3),
        ("ru", "А. С. Пушкин жил на ул. Мойка в 1837 г. и т. д. Он писал. Это было в 1837 г. Он умер.", 4),
        ("hi", "डॉ. राम घर पर हैं। श्री. मोहन नहीं।", 2),
        ("pt-BR", "O Sr. Silva chegou. A Sra. Lima, p. ex. hoje, não.", 2),
        ("xx", "Dr. Who. And so on.", 2),
    ],
)
def test_texts(language: str, text: str, number: int) -> None:
    """Sentences with abbreviations, initials and ordinal numbers, in the languages that have rules of their own."""
    assert len(sentences(text, language)) == number, sentences(text, language)


WORDS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["No.", "U.S.", "J.", "Inc.", "3.", "etc.", "p.m.", "Dr.", "…", "The", "he", "5", "I", "»", "٣."]),
)
LANGUAGES = st.sampled_from(["en", "fr", "de", "es", "ru", "hi", "ja", "cs", "tlh", "de-AT", ""])


@given(WORDS, WORDS, LANGUAGES)
def test_waits_for_one_word_at_most(word: str, following: str, language: str) -> None:
    """Whatever the words: what was known without the next word stays, what was not is known with it."""
    alone, together = ends(word, None, language), ends(word, following, language)
    assert together is not WAIT
    assert alone in (WAIT, together)


@given(WORDS, LANGUAGES, st.text("\"')]}”’»›」』）", max_size=3))
def test_closing_marks_change_nothing(word: str, language: str, closers: str) -> None:
    """Closing quotes and brackets belong to the sentence before them."""
    assert ends(word + closers, None, language) is ends(word, None, language)


@pytest.mark.parametrize("word", ["house.", "work.", "art.", "may.", "sun.", "said.", "Monday.", "2013."])
def test_ordinary_words_do_not_wait(word: str) -> None:
    """No frequent word of English is taken for an abbreviation."""
    assert ends(word, None) is YES
