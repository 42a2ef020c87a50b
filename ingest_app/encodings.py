"""Inflates compressed bodies piece by piece. Pure.

A piece has at most 2 MB, and inflation stops when the caller stops reading. Therefore a decompression bomb has no
effect. Callers must handle InvalidEvent (the body does not have the declared encoding) and NotSpoken (a 415: the
encoding is not supported).
"""

import zlib
from collections.abc import Callable, Iterable, Iterator

import brotli
import zstandard
from werkzeug.exceptions import UnsupportedMediaType

from analytics.events.schema import InvalidEvent

PIECE = 65536  # bytes
_WINDOW = 2**23  # bytes that a zstd frame may refer back to: RFC 9659's limit for HTTP
# Members of a gzip file, or zstd frames. An empty one has few bytes, and takes a thousand times as long per byte.
MOST_MEMBERS = 1000
BITE = 64  # bytes of zstd per call. They become at most 2 MB, because a block of 128 KiB takes at least 4 bytes.

Pieces = Iterable[bytes]


def inflate(pieces: Pieces, encoding: str) -> Iterator[bytes]:
    """Returns the inflated pieces. `encoding`: the header Content-Encoding, "" for none. Raises NotSpoken."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return iter(pieces)
    if name not in ENCODINGS:
        raise NotSpoken(name)
    return _named(ENCODINGS[name](pieces), name)


class NotSpoken(UnsupportedMediaType):
    """A 415. Its Accept-Encoding header lists the supported encodings."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The Content-Encoding {name[:40]!r} is not known. Send one of {', '.join(ENCODINGS)}.")

    def get_headers(self, *args: object, **kwargs: object) -> list[tuple[str, str]]:
        return [*super().get_headers(), ("Accept-Encoding", ", ".join(ENCODINGS))]


def _named(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    try:
        yield from pieces
    except (zlib.error, brotli.error, zstandard.ZstdError, EOFError) as error:
        raise InvalidEvent({"body": [f"Not valid {name}: {error}."]}, "not_decoded") from None


def _gzip(pieces: Pieces) -> Iterator[bytes]:
    return _zlib(pieces, lambda _: 16 + zlib.MAX_WBITS)


def _deflate(pieces: Pieces) -> Iterator[bytes]:
    """RFC 9110 defines deflate as zlib's format, but some clients send raw deflate.

    The lower half of zlib's first byte is 8.
    """
    return _zlib(pieces, lambda first: zlib.MAX_WBITS if first[0] & 15 == 8 else -zlib.MAX_WBITS)


def _zlib(pieces: Pieces, window: Callable[[bytes], int]) -> Iterator[bytes]:
    inflater, members = None, _members()
    for piece in pieces:
        rest = piece
        while rest:
            if inflater is None or inflater.eof:  # a gzip file may have several members
                next(members)
                inflater = zlib.decompressobj(window(rest))
            if inflated := inflater.decompress(rest, PIECE):
                yield inflated
            rest = inflater.unconsumed_tail or inflater.unused_data
    while inflater is not None and (inflated := inflater.decompress(b"", PIECE)):
        yield inflated
    if inflater is None or not inflater.eof:
        raise EOFError("the data ends too early")


def _brotli(pieces: Pieces) -> Iterator[bytes]:
    inflater = brotli.Decompressor()
    for piece in pieces:
        if inflater.is_finished():
            raise EOFError("it has data after its end")
        inflated = inflater.process(piece, output_buffer_limit=PIECE)
        while inflated or not inflater.can_accept_more_data():
            yield inflated
            inflated = inflater.process(b"", output_buffer_limit=PIECE)
    if not inflater.is_finished():
        raise EOFError("the data ends too early")


def _zstd(pieces: Pieces) -> Iterator[bytes]:
    inflater, members = None, _members()
    for piece in pieces:
        for first in range(0, len(piece), BITE):
            rest = piece[first : first + BITE]
            while rest:
                if inflater is None or inflater.eof:  # a body may have several frames
                    next(members)
                    inflater = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
                if inflated := inflater.decompress(rest):
                    yield inflated
                rest = inflater.unused_data if inflater.eof else b""
    if inflater is None or not inflater.eof:
        raise EOFError("the data ends too early")


def _members() -> Iterator[int]:
    """Counts members or frames: one next() for each that begins. Raises EOFError if there are too many."""
    yield from range(MOST_MEMBERS)
    raise EOFError(f"it has more than {MOST_MEMBERS} parts")


ENCODINGS: dict[str, Callable[[Pieces], Iterator[bytes]]] = {
    "gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _brotli, "zstd": _zstd,
}  # fmt: skip
