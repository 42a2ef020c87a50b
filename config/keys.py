"""Keys that come as `Authorization: Bearer <key>`."""

import hmac


def holds(key: str, authorization: str) -> bool:
    """Whether this header's value carries the key, in a time that tells nothing of it. Never for an empty key."""
    kind, _, given = authorization.partition(" ")
    return bool(key) and kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())
