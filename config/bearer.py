"""Reads keys from `Authorization: Bearer <key>`."""

import hmac


def bearer(authorization: str) -> str:
    """The key in this header's value. "" if there is none."""
    kind, _, given = authorization.partition(" ")
    return given.strip() if kind.lower() == "bearer" else ""


def holds(key: str, authorization: str) -> bool:
    """Whether this header's value has the key. False for an empty key. The comparison takes constant time."""
    return bool(key) and hmac.compare_digest(bearer(authorization).encode(), key.encode())
