"""Hashes, proofs and notes against vectors of the specifications, and against golang.org/x/mod."""

import os
import random
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from otel_telemetry.exporters.request_log.audit import merkle, notes, tiles

LEAVES = [bytes.fromhex(each) for each in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = {1: "6e340b9c", 2: "fac54203", 3: "aeb6bcfe", 7: "ddb89be4", 8: "5dc9da79"}
ENDS = {1: "afa01d", 2: "c125", 3: "6e77", 7: "4c8c", 8: "4328"}
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def tree(leaves: list[bytes]) -> tiles.Tiles:
    made = tiles.Tiles(lambda _, __: b"")
    made.append(0, [merkle.leaf_hash(leaf) for leaf in leaves])
    return made


def plain(leaves: list[bytes]) -> bytes:
    """Return the root as the definition has it."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return merkle.leaf_hash(leaves[0])
    cut = 1
    while cut * 2 < len(leaves):
        cut *= 2
    return merkle.node_hash(plain(leaves[:cut]), plain(leaves[cut:]))


def test_roots_are_those_of_the_vectors() -> None:
    for size, begin in ROOTS.items():
        found = merkle.root(tree(LEAVES).node, size).hex()
        assert found.startswith(begin)
        assert found.endswith(ENDS[size])
    assert merkle.root(tree([]).node, 0) == merkle.EMPTY == sha256(b"").digest()


def test_every_proof_of_every_small_tree_holds_and_no_other() -> None:
    leaves = [bytes([number]) for number in range(20)]
    full = tree(leaves)
    for size in range(21):
        root = merkle.root(full.node, size)
        assert root == plain(leaves[:size])
        for index in range(size):
            proof = merkle.inclusion(full.node, index, size)
            own = merkle.leaf_hash(leaves[index])
            assert merkle.includes(own, index, size, proof, root)
            assert not merkle.includes(merkle.leaf_hash(b"x"), index, size, proof, root)
            assert not merkle.includes(own, index, size, [*proof, root], root)
            assert size == 1 or not merkle.includes(own, (index + 1) % size, size, proof, root)


def test_tiles_have_the_widths_and_names_of_the_specification() -> None:
    shape = list(tiles.widths(70_000))
    assert [len([each for each in shape if each[0] == level]) for level in range(3)] == [274, 2, 1]
    assert [width for level, _, width in shape if level == 0][-1] == 112
    assert [width for level, _, width in shape if level == 1] == [256, 17]
    assert [width for level, _, width in shape if level == 2] == [1]
    assert list(tiles.widths(256)) == [(0, 0, 256), (1, 0, 1)]
    assert tiles.path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tiles.path("entries", 273, 112) == "tile/entries/273.p/112"


def test_a_tree_that_grows_in_any_steps_is_the_same() -> None:
    chance = random.Random(17)  # noqa: S311  # an order, no secret
    leaves = [merkle.leaf_hash(number.to_bytes(4)) for number in range(1_500)]
    hashes: dict[tuple[int, int], bytes] = {}
    size = 0
    while size < len(leaves):
        step = chance.randrange(1, 300)
        grown = tiles.Tiles(lambda level, number: hashes.get((level, number), b""))  # used at once
        grown.append(size, leaves[size : size + step])
        hashes.update(grown.changed)
        size = min(len(leaves), size + step)
    whole = tiles.Tiles(lambda _, __: b"")
    whole.append(0, leaves)
    assert hashes == whole.changed


def test_a_tree_that_is_read_once_gives_the_same_tiles_and_the_root_of_every_size() -> None:
    leaves = [merkle.leaf_hash(number.to_bytes(4)) for number in range(1_300)]
    whole = tree([number.to_bytes(4) for number in range(1_300)])
    given: dict[tuple[int, int], bytes] = {}

    def full(level: int, number: int, hashes: bytes) -> None:
        assert (level, number) not in given
        given[level, number] = hashes

    grown = tiles.Growing(full)
    assert grown.root() == merkle.EMPTY
    for size, leaf in enumerate(leaves, 1):
        grown.add(leaf)
        assert grown.root() == merkle.root(whole.node, size)
    grown.finish()
    assert given == whole.changed


def test_a_note_of_others_is_verified_and_any_other_byte_is_not() -> None:
    assert notes.verified(NOTE, NEUMANN).startswith("If you think")
    for at in range(len(NOTE)):
        other = NOTE[:at] + ("A" if NOTE[at] != "A" else "B") + NOTE[at + 1 :]
        with pytest.raises(notes.BadNote):
            notes.verified(other, NEUMANN)


GO = """package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type files struct{ dir string }

func (f files) Height() int { return 8 }
func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range tiles {
		t8 := t
		p := t8.Path()[len("tile/8/"):]
		data, err := os.ReadFile(filepath.Join(f.dir, "tile", p))
		if err != nil {
			return nil, err
		}
		out = append(out, data)
	}
	return out, nil
}
func (f files) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

func check(err error) {
	if err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
}

func main() {
	dir, key := os.Args[1], os.Args[2]
	verifier, err := note.NewVerifier(key)
	check(err)
	data, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	check(err)
	n, err := note.Open(data, note.VerifierList(verifier))
	check(err)
	var origin, root string
	var size int64
	_, err = fmt.Sscanf(n.Text, "%s\\n%d\\n%s\\n", &origin, &size, &root)
	check(err)
	hash, err := tlog.ParseHash(root)
	check(err)
	tree := tlog.Tree{N: size, Hash: hash}
	reader := tlog.TileHashReader(tree, files{dir})
	at := int64(0)
	for b := int64(0); at < size; b++ {
		name := fmt.Sprintf("%03d", b)
		if size-at < 256 {
			name += fmt.Sprintf(".p/%d", size-at)
		}
		body, err := os.ReadFile(filepath.Join(dir, "tile", "entries", name))
		check(err)
		for len(body) > 0 {
			n := int(body[0])<<8 | int(body[1])
			leaf := tlog.RecordHash(body[2 : 2+n])
			body = body[2+n:]
			proof, err := tlog.ProveRecord(size, at, reader)
			check(err)
			check(tlog.CheckRecord(proof, size, hash, at, leaf))
			at++
		}
	}
	fmt.Println("verified", size)
}
"""


def verified_by_go(folder: Path, files: Path, public: str) -> str:
    """Return what a program on golang.org/x/mod says of exported files."""
    if shutil.which("go") is None:
        pytest.skip("there is no Go here")
    program = folder / "go"
    program.mkdir()
    (program / "main.go").write_text(GO)
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    module = "module example.org/verify\n\ngo 1.25.0\n\nrequire golang.org/x/mod v0.43.0\n"
    (program / "go.mod").write_text(module)
    done = subprocess.run(
        ["go", "run", ".", str(files), public],
        cwd=program, env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr
