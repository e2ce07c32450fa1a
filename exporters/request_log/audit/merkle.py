"""Hashes, proofs and their checks of RFC 6962, section 2.1 (RFC 9162 has the same).

A leaf is H(0x00 | entry), a node H(0x01 | left | right); a tree of n leaves is cut at the largest power of two below n.
A proof is a list of hashes.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

#: Gives the hash of the complete tree over leaves [index << level, (index + 1) << level).
Node = Callable[[int, int], bytes]
EMPTY: Final = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node."""
    return sha256(b"\1" + left + right).digest()


def _cut(size: int) -> int:
    """Return the largest power of two below a size of 2 or more."""
    return 1 << ((size - 1).bit_length() - 1)


def root(node: Node, size: int) -> bytes:
    """Return the hash of a tree."""
    return _tree(node, 0, size) if size else EMPTY


def _tree(node: Node, first: int, end: int) -> bytes:
    size = end - first
    if size & (size - 1) == 0 and first % size == 0:
        return node(size.bit_length() - 1, first // size)
    middle = first + _cut(size)
    return node_hash(_tree(node, first, middle), _tree(node, middle, end))


def inclusion(node: Node, index: int, size: int) -> list[bytes]:
    """Return the proof that the leaf at `index` is in the tree of that size."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} among {size}")
    proof: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _cut(end - first)
        if index < middle:
            proof.append(_tree(node, middle, end))
            end = middle
        else:
            proof.append(_tree(node, first, middle))
            first = middle
    return proof[::-1]


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree: bytes) -> bool:
    """Return whether a proof shows that a leaf is at `index` of the tree with that hash (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, found = index, size - 1, leaf
    for each in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            found = node_hash(each, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, each)
        position, last = position >> 1, last >> 1
    return last == 0 and found == tree
