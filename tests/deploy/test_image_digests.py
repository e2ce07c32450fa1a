"""Images of others are named by tag and digest: the tag says what it is, the digest that it stays that."""

from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest

from tests.company import digests
from tests.company.environments import ROOT

IMAGES: Final = [(file, *image) for file in digests.FILES for image in digests.named(file.read_text())]


def test_all_images_are_found() -> None:
    found = [image for _, image, _ in IMAGES]
    assert len(found) == len(set(found)) == 9, found
    lines = [line for file in digests.FILES for line in file.read_text().splitlines()]
    others = [line for line in lines if line.lstrip().startswith(("image: ", "FROM ")) and "otel-telemetry" not in line]
    assert len([line for line in others if "${PYTHON_IMAGE}" not in line]) == 8, others


@pytest.mark.parametrize(("file", "tag", "digest"), IMAGES, ids=[tag for _, tag, _ in IMAGES])
def test_each_image_has_its_tag_and_its_digest(file: Path, tag: str, digest: str | None) -> None:
    assert digest is not None, f"{file.name}: {tag} has no digest: make digests"
    assert digests.DIGEST.fullmatch(digest), digest


def test_a_tag_has_one_digest_wherever_it_is_named() -> None:
    known = defaultdict(set)
    texts = [file.read_text() for folder in (ROOT / "docs", ROOT / "deploy") for file in folder.rglob("*.md")]
    for _, tag, digest in IMAGES:
        known[tag].add(digest or "")
        for text in (*texts, (ROOT / "README.md").read_text(), (ROOT / ".github/workflows/release.yml").read_text()):
            known[tag] |= {f"sha256:{rest[:64]}" for rest in text.split(f"{tag}@sha256:")[1:]}
    assert [tag for tag, digest in known.items() if len(digest) != 1] == []


def test_what_has_no_digest_or_another_form_is_seen() -> None:
    text = "FROM a/b:1 AS x\nARG X_IMAGE=c:2@sha256:12\nFROM ${X_IMAGE}\n  image: d:3\n  image: otel-telemetry:0.1.0\n"
    assert list(digests.named(text)) == [("a/b:1", None), ("c:2", "sha256:12"), ("d:3", None)]
    assert not digests.DIGEST.fullmatch("sha256:12")
