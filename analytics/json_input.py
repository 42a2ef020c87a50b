"""Reads JSON that a client or another program wrote. Pure. Callers must handle NotJson."""

import json
import re
from typing import Any

# HALF_IN_BYTES finds a possible half of a surrogate pair in the bytes of JSON. HALF_IN_TEXT finds the halves in its
# text, and skips whole pairs and other escapes.
HALF_IN_BYTES = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]|\x00")
HALF_IN_TEXT = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2}|[\ud800-\udfff])|\\.",
    re.DOTALL,
)


class NotJson(Exception):
    """The bytes are not JSON, or are nested too deeply. The message is a sentence."""


def read_json(raw: bytes) -> Any:
    """Parse JSON. Raises NotJson."""
    try:
        return json.loads(raw)
    except ValueError as error:
        raise NotJson(f"Not JSON: {error}.") from None
    except RecursionError:
        raise NotJson("Nested too deeply.") from None


def without_half_pairs(raw: bytes) -> tuple[bytes, int]:
    """Return the JSON with U+FFFD in place of each half of a surrogate pair, and the number of halves. No store can
    hold a half.
    """
    if (raw.isascii() and b"\\u" not in raw) or not HALF_IN_BYTES.search(raw):
        return raw, 0
    try:
        text = raw.decode(json.detect_encoding(raw), "surrogatepass")
    except UnicodeDecodeError:
        return raw, 0  # read_json reports the error
    halves = sum(1 for found in HALF_IN_TEXT.finditer(text) if found[1])
    whole = HALF_IN_TEXT.sub(lambda found: "\ufffd" if found[1] else found[0], text)
    return (whole.encode(), halves) if halves else (raw, 0)
