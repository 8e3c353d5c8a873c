"""The bounds fit each other."""

from protocol import InputTextAppend, Session, SessionCreate, check, limits


def test_the_longest_text_fits_into_an_event() -> None:
    """A full `input_text.append` of the widest characters stays under the event bound."""
    check(InputTextAppend(text="𝄞" * limits.MAX_TEXT_CHARS, seq=limits.MAX_SEQ))


def test_the_fullest_session_fits_into_an_event() -> None:
    """All options at their bounds, in the widest characters, stay under the event bound."""
    keys = (chr(0x1F300 + i) * limits.MAX_METADATA_KEY_CHARS for i in range(limits.MAX_METADATA_ENTRIES))
    wide = "𝄞"
    session = Session(
        prompt=wide * limits.MAX_PROMPT_CHARS,
        source_language=wide * limits.MAX_LANGUAGE_CHARS,
        target_language=wide * limits.MAX_LANGUAGE_CHARS,
        metadata=dict.fromkeys(keys, wide * limits.MAX_METADATA_VALUE_CHARS),
    )
    check(SessionCreate(session=session, seq=limits.MAX_SEQ))
