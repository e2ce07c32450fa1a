"""Validators for crypto wallets: the checksums that addresses carry.

Base58Check (Bitcoin, Litecoin, Dogecoin, Tron), Bech32 and Bech32m (BIP 173, BIP 350), and the capitals of Ethereum
(EIP-55), which are bits of the address's Keccak-256. That hash is not in hashlib: NIST changed its padding.
"""

import hashlib
import re
from functools import reduce
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span, span_of

_BASE58: Final = {char: at for at, char in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
#: First byte of an address: Bitcoin and Dogecoin, pay to key and to script; Litecoin; Tron.
_VERSIONS: Final = frozenset({0x00, 0x05, 0x16, 0x1E, 0x30, 0x32, 0x41})
_ADDRESS_BYTES: Final = 25
_BECH32: Final = {char: at for at, char in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32_SUMS: Final = (1, 0x2BC830A3)
_MASK: Final = (1 << 64) - 1
_RATE: Final = 136
_ROUNDS: Final = 24


def base58_wallet(text: str, match: re.Match[str]) -> Span | None:
    """Accept a Base58Check address: 21 bytes, and four of their double SHA-256."""
    span = span_of(match)
    value = reduce(lambda total, char: total * 58 + _BASE58[char], text[span.start : span.end], 0)
    if value.bit_length() > _ADDRESS_BYTES * 8:
        return None
    data = value.to_bytes(_ADDRESS_BYTES, "big")
    right = hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4] == data[-4:]
    return span if right and data[0] in _VERSIONS else None


def bech32_wallet(text: str, match: re.Match[str]) -> Span | None:
    """Accept a Bech32 or Bech32m address; one in mixed case is none."""
    span = span_of(match)
    value = text[span.start : span.end]
    if value not in (value.lower(), value.upper()):
        return None
    prefix, _, data = value.lower().partition("1")
    values = [*(ord(char) >> 5 for char in prefix), 0, *(ord(char) & 31 for char in prefix)]
    values += [_BECH32[char] for char in data]
    return span if reduce(_polymod, values, 1) in _BECH32_SUMS else None


def ethereum_wallet(text: str, match: re.Match[str]) -> Span | None:
    """Accept 40 hexadecimal digits whose capitals are those of EIP-55; without any capital it cannot be checked."""
    span = span_of(match)
    digits = text[span.start + 2 : span.end]
    plain = digits.lower()
    if digits in (plain, digits.upper()):
        return None
    marks = keccak_256(plain.encode()).hex()
    capitals = "".join(char.upper() if int(mark, 16) >= 8 else char for char, mark in zip(plain, marks, strict=False))
    return span if digits == capitals else None


def _polymod(total: int, value: int) -> int:
    top = total >> 25
    total = (total & 0x1FFFFFF) << 5 ^ value
    return reduce(lambda sum_, at: sum_ ^ (_GENERATORS[at] if top >> at & 1 else 0), range(5), total)


def keccak_256(data: bytes) -> bytes:
    """Return the Keccak-256 digest of less than 136 bytes: one block (Keccak reference 3.0, section 1)."""
    block = bytearray(data.ljust(_RATE, b"\0"))
    block[len(data)] ^= 0x01
    block[-1] ^= 0x80
    lanes = [int.from_bytes(block[at : at + 8], "little") for at in range(0, _RATE, 8)] + [0] * 8
    register = 1
    for _ in range(_ROUNDS):
        lanes = _mixed(lanes)
        for power in range(7):
            register = (register << 1 ^ (register >> 7) * 0x71) & 0xFF
            if register & 2:
                lanes[0] ^= 1 << ((1 << power) - 1)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def _mixed(lanes: list[int]) -> list[int]:
    """Return the 25 lanes after theta, rho, pi and chi of one round; lane x, y stands at x + 5 * y."""
    columns = [reduce(lambda a, b: a ^ b, lanes[x::5]) for x in range(5)]
    tilted = [lane ^ columns[(at + 4) % 5] ^ _turned(columns[(at + 1) % 5], 1) for at, lane in enumerate(lanes)]
    x, y, carried = 1, 0, tilted[1]
    for step in range(_ROUNDS):
        x, y = y, (2 * x + 3 * y) % 5
        at = x + 5 * y
        carried, tilted[at] = tilted[at], _turned(carried, (step + 1) * (step + 2) // 2)
    rows = [tilted[start : start + 5] for start in range(0, 25, 5)]
    return [row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]) for row in rows for x in range(5)]


def _turned(lane: int, by: int) -> int:
    by %= 64
    return (lane << by | lane >> (64 - by)) & _MASK
