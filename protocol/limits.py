"""Every size bound of the wire; the events carry them into the JSON Schema.

`*_CHARS` count Unicode code points of the decoded text, `*_BYTES` count bytes as sent (UTF-8).
"""

from typing import Final

MAX_EVENT_BYTES: Final = 65_536
"""Largest JSON text of one client or worker event; checked before parsing."""

MAX_TARGET_EVENT_BYTES: Final = 1_048_576
"""Largest JSON text of one server event: a `segment.done` repeats the text of a whole segment."""

MAX_TEXT_CHARS: Final = 8_192
"""Longest `text` of one `input_text.append`."""

MAX_PROMPT_CHARS: Final = 4_096
MAX_LANGUAGE_CHARS: Final = 35
"""Longest language tag; RFC 5646 section 4.4.1 asks implementations to allow 35."""

MAX_SESSION_ID_BYTES: Final = 128
MAX_METADATA_ENTRIES: Final = 16
MAX_METADATA_KEY_CHARS: Final = 64
MAX_METADATA_VALUE_CHARS: Final = 512

MAX_SEQ: Final = 2**53 - 1
"""Largest sequence number: JavaScript, and Lua inside Redis, are not exact beyond it."""

MAX_SEED: Final = 2**63 - 1
