"""Signed tokens that carry what they allow: a link to listen to one session, and a browser's short-lived client secret.

A token is `SUBJECT~EXPIRES_AT~SIGNATURE`, signed by HMAC-SHA256; any gateway with the same secret accepts it.
"""

import base64
import hashlib
import hmac
from typing import Final

_SEPARATOR: Final = "~"


class InvalidToken(Exception):
    """The text is no token that this secret has signed."""


class ExpiredToken(Exception):
    """The token is genuine, but its time is over."""


def sign(subject: str, expires_at_s: int, secret: bytes) -> str:
    """Return a token for the subject, which has no `~`, up to this Unix time."""
    signed = f"{subject}{_SEPARATOR}{expires_at_s}"
    return f"{signed}{_SEPARATOR}{_signature(signed, secret)}"


def verify(token: str, secret: bytes, now_s: float) -> str:
    """Return the token's subject. Raises InvalidToken, ExpiredToken.

    >>> verify(sign("talk-1", 20, b"secret"), b"secret", 10.0)
    'talk-1'
    """
    signed, _, signature = token.rpartition(_SEPARATOR)
    subject, separator, expires_at = signed.rpartition(_SEPARATOR)
    genuine = hmac.compare_digest(_signature(signed, secret).encode(), signature.encode("utf-8", "replace"))
    if not genuine or not separator or not expires_at.isdecimal():
        raise InvalidToken
    if int(expires_at) <= now_s:
        raise ExpiredToken
    return subject


def _signature(signed: str, secret: bytes) -> str:
    digest = hmac.new(secret, signed.encode("utf-8", "replace"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def pack(data: bytes) -> str:
    """Return bytes as text that may be a subject."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unpack(text: str) -> bytes:
    """Return the bytes that were packed. Raises InvalidToken."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise InvalidToken from None
