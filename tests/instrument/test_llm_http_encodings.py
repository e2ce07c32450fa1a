"""Undoing content encodings piece by piece: whole, bounded, and never raising."""

import gzip
import os
import zlib
from collections.abc import Callable
from importlib import import_module

import pytest

from otel_telemetry.instrument.llm_http.encodings import MAX_DECODED, decoder

DATA = b"hello world " * 20_000 + os.urandom(500)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def brotli(data: bytes) -> bytes:
    packed: bytes = pytest.importorskip("brotli").compress(data, quality=4)
    return packed


def zstd(data: bytes) -> bytes:
    try:
        module = import_module("compression.zstd")
    except ImportError:
        module = pytest.importorskip("backports.zstd")
    packed: bytes = module.compress(data)
    return packed


ENCODINGS = pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        (" GZIP ", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("br", brotli),
        ("zstd", zstd),
    ],
)


@ENCODINGS
@pytest.mark.parametrize("size", [1, 13, 1_000_000])
def test_pieces_of_any_size_give_the_data(name: str, encode: Callable[[bytes], bytes], size: int) -> None:
    packed = encode(DATA)
    decode = decoder(name)
    pieces = (packed[at : at + size] for at in range(0, len(packed), size))
    assert b"".join(part for piece in pieces for part in decode(piece)) == DATA


@ENCODINGS
def test_a_bomb_stops_at_the_bound_in_small_steps(name: str, encode: Callable[[bytes], bytes]) -> None:
    bomb = encode(bytes(3 * MAX_DECODED))
    decode = decoder(name)
    sizes = [len(part) for at in range(0, len(bomb), 1000) for part in decode(bomb[at : at + 1000])]
    assert sum(sizes) < MAX_DECODED + (1 << 20)
    assert max(sizes) <= 1 << 18


@ENCODINGS
def test_after_broken_data_there_is_nothing(name: str, encode: Callable[[bytes], bytes]) -> None:
    decode = decoder(name)
    assert list(decode(b"\xff\xff no such data" * 20)) == []
    assert list(decode(encode(DATA))) == []


@pytest.mark.parametrize("name", ["gzip, br", "compress", "made-up", "br,"])
def test_an_encoding_nobody_knows_shows_nothing(name: str) -> None:
    assert list(decoder(name)(DATA)) == []


@pytest.mark.parametrize("name", ["", "identity", " Identity"])
def test_no_encoding_shows_the_data(name: str) -> None:
    assert list(decoder(name)(DATA)) == [DATA]
