"""The workflows: everything pinned, no right that is not needed, nothing of the outside in a shell's text."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.backends import builds

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE: Final[dict[str, Any]] = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def steps(file: Path) -> list[dict[str, Any]]:
    jobs: dict[str, Any] = yaml.safe_load(file.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@each_file
def test_each_action_is_pinned_by_its_commit_with_its_version_beside_it(file: Path) -> None:
    lines = re.findall(r"uses: (.+)$", file.read_text(), re.MULTILINE)
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", line)] == []


@each_file
def test_no_shell_text_holds_an_expression_and_no_clone_keeps_credentials(file: Path) -> None:
    for step in steps(file):
        assert "${{" not in step.get("run", ""), step
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@each_file
def test_rights_are_given_job_by_job(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] in ({}, {"contents": "read"})


def test_nothing_is_published_before_a_maintainer_switches_it_on() -> None:
    jobs = RELEASE["jobs"]
    assert jobs["build"]["if"] == "vars.RELEASE == 'on'"
    assert all("build" in job["needs"] or "image" in job["needs"] for name, job in jobs.items() if name != "build")


@each_file
def test_actionlint_finds_nothing_wrong(file: Path) -> None:
    done = subprocess.run(
        [builds.built(builds.ACTIONLINT, "make e2e"), file], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("tag", "code"), [("", 0), (".1", 1)])
def test_a_tag_that_is_not_the_package_s_version_ends_the_release(tag: str, code: int) -> None:
    (script,) = [step["run"] for step in RELEASE["jobs"]["build"]["steps"] if "GITHUB_REF_NAME" in step.get("run", "")]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "GITHUB_REF_NAME": f"v{version}{tag}"}
    assert subprocess.run(["bash", "-ec", script], cwd=ROOT, env=environment, check=False).returncode == code


def test_the_notes_are_the_version_s_part_of_the_changelog(tmp_path: Path) -> None:
    (script,) = [step["run"] for step in RELEASE["jobs"]["notes"]["steps"] if "notes.md" in step.get("run", "")]
    (line,) = [line for line in script.splitlines() if line.startswith("awk")]
    (tmp_path / "CHANGELOG.md").write_text("# C\n## [Unreleased]\n- no\n## [1.2.0] - 2026\n- yes\n## [1.1.0]\n- old\n")
    done = ["bash", "-ec", f"{line}\ncat notes.md"]
    environment = {"PATH": "/usr/bin:/bin", "GITHUB_REF_NAME": "v1.2.0"}
    notes = subprocess.run(done, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert notes == "## [1.2.0] - 2026\n- yes\n"


def test_the_chart_is_given_the_image_by_digest_and_all_images_are_listed_with_theirs(tmp_path: Path) -> None:
    (script,) = [step["run"] for step in RELEASE["jobs"]["image"]["steps"] if "helm package" in step.get("run", "")]
    helm = builds.built(builds.HELM, "make e2e")
    shutil.copytree(ROOT / "deploy/helm", tmp_path / "deploy/helm")
    compose = (ROOT / "docker-compose.yml").read_text()
    (tmp_path / "docker-compose.yml").write_text(compose)
    here = [line for line in script.splitlines() if not line.startswith(("helm registry login", "helm push"))]
    assert len(here) == len(script.splitlines()) - 2, "what needs a registry"
    environment = {"PATH": f"{helm.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "GITHUB_REF_NAME": "v1.2.3"}
    environment |= {"IMAGE": "ghcr.io/o/r", "DIGEST": f"sha256:{'a' * 64}"}
    subprocess.run(["bash", "-ec", "\n".join(here)], cwd=tmp_path, env=environment, capture_output=True, check=True)

    listed = (tmp_path / "pinned/images.txt").read_text().split()
    theirs = set(re.findall(r"image: (\S+@\S+)", compose))
    assert {*theirs, f"ghcr.io/o/r@sha256:{'a' * 64}"} == set(listed)
    assert len(theirs) == 6
    (chart,) = (tmp_path / "pinned").glob("*.tgz")
    given = ["--set", "existingSecret=keys"]
    text = subprocess.run([helm, "template", "t", chart, *given], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"image: (.*)", text)) == {f'"ghcr.io/o/r:1.2.3@sha256:{"a" * 64}"'}
