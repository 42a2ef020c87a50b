"""Compressed bodies: each encoding, also cut, damaged, or a bomb."""

import gzip
import zlib
from collections.abc import Callable, Iterator

import brotli
import pytest
import zstandard

from analytics.events.schema import InvalidEvent
from ingest_app.encodings import NotSpoken, inflate

TEXT = b"".join(b'{"number": %d}\n' % number for number in range(20_000))
HOW: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: bytes(brotli.compress(data, quality=4)),
    "zstd": zstandard.compress,
}


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[first : first + size] for first in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 65536])
@pytest.mark.parametrize("encoding", HOW)
def test_a_body_is_inflated_in_whatever_pieces_it_arrives(encoding: str, size: int):
    assert b"".join(inflate(pieces(HOW[encoding](TEXT), size), encoding.upper())) == TEXT


def test_bare_deflate_is_read_too_and_gzip_of_several_members_and_zstd_of_several_frames():
    bare = zlib.compressobj(wbits=-15)
    assert b"".join(inflate(pieces(bare.compress(TEXT) + bare.flush()), "deflate")) == TEXT
    for encoding in ("gzip", "zstd"):
        assert b"".join(inflate(pieces(HOW[encoding](TEXT) + HOW[encoding](b"end")), encoding)) == TEXT + b"end"


@pytest.mark.parametrize("encoding", HOW)
def test_an_incomplete_overlong_or_invalid_body_is_an_error_of_the_caller(encoding: str):
    good = HOW[encoding](TEXT)
    for body in (b"", good[:1], good[: len(good) // 2], good[:-1], good + b"more", b"{}", b"\xff" * 100):
        with pytest.raises(InvalidEvent) as error:
            list(inflate(pieces(body), encoding))
        assert error.value.code == "not_decoded"


@pytest.mark.parametrize("encoding", HOW)
def test_a_body_that_inflates_to_a_huge_one_is_inflated_only_as_far_as_it_is_read(encoding: str):
    bomb = HOW[encoding](bytes(100_000_000))
    assert len(bomb) < 200_000
    first = next(inflate(pieces(bomb, 65536), encoding))
    assert len(first) <= 2_200_000


@pytest.mark.parametrize("encoding", ["", " ", "identity", "Identity"])
def test_a_body_without_an_encoding_is_unchanged(encoding: str):
    assert b"".join(inflate(pieces(TEXT), encoding)) == TEXT


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "\u00e4", "x" * 1000])
def test_an_unknown_encoding_is_named_with_the_supported_ones(encoding: str):
    with pytest.raises(NotSpoken) as error:
        inflate(pieces(TEXT), encoding)
    assert dict(error.value.get_headers())["Accept-Encoding"] == "gzip, x-gzip, deflate, br, zstd"


def test_a_zstd_frame_that_needs_more_memory_than_http_allows_is_refused():
    wants = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27))
    with pytest.raises(InvalidEvent):
        list(inflate([wants.compressobj().compress(TEXT) or wants.stream_reader(TEXT).read()], "zstd"))


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_of_very_many_members_is_not_read_to_its_end(encoding: str):
    """Five megabytes of empty members took 20 seconds."""
    with pytest.raises(InvalidEvent, match="more than 1000 parts"):
        list(inflate(pieces(HOW[encoding](b"") * 1001, 65536), encoding))
    assert b"".join(inflate(pieces(HOW[encoding](b"a") * 1000, 65536), encoding)) == b"a" * 1000
