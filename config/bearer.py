"""Keys that come as `Authorization: Bearer <key>`."""

import hmac


def bearer(authorization: str) -> str:
    """The key in this header's value; "" where there is none."""
    kind, _, given = authorization.partition(" ")
    return given.strip() if kind.lower() == "bearer" else ""


def holds(key: str, authorization: str) -> bool:
    """Whether this header's value carries the key, in a time that tells nothing of it. Never for an empty key."""
    return bool(key) and hmac.compare_digest(bearer(authorization).encode(), key.encode())
