"""The digest by which secrets are stored and found. Pure."""

import hashlib


def digest_of(text: str) -> str:
    """Return the SHA-256 in hexadecimal. The text may hold half of a surrogate pair."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
