"""Builds a Dockerfile natively, for machines without a container engine: as root, on Linux.

Each stage is a folder, and RUN is a chroot into it, in a mount namespace of its own. The base image is this machine's
/usr and the Python that runs the tests, both read-only. An instruction that is not known here is an error.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

_PATH: Final = f"{sys.base_prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OF_ETC: Final = (
    "passwd",
    "group",
    "shadow",
    "gshadow",
    "login.defs",
    "nsswitch.conf",
    "ld.so.cache",
    "ssl",
    "alternatives",
)
#: How the package index is reached from here, which no image keeps.
_INDEX: Final = ("PIP_CERT", "PIP_INDEX_URL", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy")


@dataclass
class Stage:
    """A stage: its folder, and what its instructions say of a container."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    folder: str = "/"
    user: str = "0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """Return where a path of the image is on this machine."""
        return self.root / (path if path.startswith("/") else f"{self.folder}/{path}").lstrip("/")

    def enter(
        self,
        arguments: Sequence[str],
        more: Mapping[str, str] | None = None,
        *,
        at_run: bool = False,
        network: bool = True,
    ) -> list[str]:
        """Return the command line that runs a program in it: as root while it is built, else as its user, read-only."""
        steps = [*self._mounts(at_run=at_run)]
        if not network:
            steps.append("ip link set lo up")
        words = [f"{name}={value}" for name, value in {**self.environment, **(more or {})}.items()]
        run = ["chroot", str(self.root), "/usr/bin/env", "-i", *words]
        if at_run:
            identity = ["--reuid", self.user, "--regid", self._group(), "--clear-groups"]
            run += ["/usr/bin/setpriv", *identity, "--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all"]
        run += ["/bin/sh", "-c", f'cd {shlex.quote(self.folder)} && exec "$@"', "sh", *arguments]
        steps.append(f"exec {shlex.join(run)}")
        alone = ["--mount", "--propagation", "private", *([] if network else ["--net"])]
        return ["unshare", *alone, "/bin/sh", "-ec", "\n".join(steps)]

    def describe(self, instruction: str, rest: str) -> None:
        """Follow an instruction that only says something of the image."""
        match instruction:
            case "ENV":
                expanded = re.sub(r"\$(\w+)", lambda found: self.environment.get(found[1], ""), rest)
                self.environment |= dict(word.split("=", 1) for word in shlex.split(expanded))
            case "WORKDIR":
                self.folder = rest
                self.inside(rest).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = rest
            case "VOLUME":
                self.volumes.append(rest)
            case "EXPOSE":
                self.ports = [int(port) for port in rest.split()]
            case "ENTRYPOINT":
                self.entrypoint = json.loads(rest)
            case "CMD":
                self.command = json.loads(rest)
            case "HEALTHCHECK":
                self.health = json.loads(rest.partition("CMD")[2])
            case _:
                raise ValueError(f"the instruction {instruction} is not known here")

    def _group(self) -> str:
        lines = (self.root / "etc" / "passwd").read_text().splitlines()
        return next((line.split(":")[3] for line in lines if line.split(":")[2] == self.user), "0")

    def _mounts(self, *, at_run: bool) -> Iterator[str]:
        root = shlex.quote(str(self.root))
        if at_run:  # the image itself, then what a container gets: volumes and /tmp
            yield f"mount --bind {root} {root} && mount -o remount,bind,ro {root}"
            yield f"mount -t tmpfs tmpfs {root}/tmp"  # noqa: S108  # of the image
            for volume in self.volumes:
                volumes = shlex.quote(f"{self.root}.volumes{volume}")
                yield f"mount --bind {volumes} {root}{volume}"
        for shared in ("/usr", sys.base_prefix):
            yield f"mount --bind {shared} {root}{shared} && mount -o remount,bind,ro {root}{shared}"
        yield f"mount --rbind /dev {root}/dev && mount --rbind /proc {root}/proc"

    def new_volumes(self) -> None:
        """Fill the volumes with what the image has at their places, as an engine does."""
        for volume in self.volumes:
            volumes = Path(f"{self.root}.volumes{volume}")
            shutil.rmtree(volumes, ignore_errors=True)
            volumes.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "--archive", self.inside(volume), volumes], check=True)


def _base(root: Path) -> Stage:
    """Make the folder of a base image."""
    for name in ("etc", "tmp", "dev", "proc", "usr", "opt", "root", "var", "home"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / sys.base_prefix.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in (*_OF_ETC, "resolv.conf", "hosts"):
        if Path("/etc", name).exists():
            subprocess.run(["cp", "--recursive", "--dereference", f"/etc/{name}", root / "etc" / name], check=True)
    return Stage(root)


def build(dockerfile: Path, target: Path, arguments: Mapping[str, str] | None = None) -> Stage:
    """Build all stages below `target`; return the last. Raises CalledProcessError with the output of what failed."""
    given = dict(arguments or {})
    stages: dict[str, Stage] = {}
    stage = Stage(target)
    for instruction, rest in _instructions(dockerfile):
        match instruction:
            case "ARG":
                name, _, default = rest.partition("=")
                given.setdefault(name, default)
            case "FROM":
                name = rest.partition(" AS ")[2] or "image"
                stage = stages[name] = _base(target / name)
            case "COPY":
                _copy(stage, stages, dockerfile.parent, rest)
            case "RUN":
                outside = {name: os.environ[name] for name in _INDEX if name in os.environ}
                line = stage.enter(["/bin/sh", "-ec", rest], outside)
                subprocess.run(line, check=True, capture_output=True, text=True)
            case _:
                stage.describe(instruction, rest)
    return stage


def _instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            instruction, _, rest = line.partition(" ")
            yield instruction, rest.strip()


def _copy(stage: Stage, stages: Mapping[str, Stage], context: Path, rest: str) -> None:
    *sources, target = rest.split()
    if sources[0].startswith("--from="):
        shutil.copytree(stages[sources[0][7:]].inside(sources[1]), stage.inside(target), symlinks=True)
        return
    allowed = (context / ".dockerignore").read_text().splitlines()
    left_out = [line.removeprefix("**/") for line in allowed if line.startswith("**/")]
    for source in sources:
        if f"!{source}" not in allowed:
            raise ValueError(f".dockerignore keeps {source} out of the build")
        path = stage.inside(target) if len(sources) == 1 else stage.inside(target) / source
        if (context / source).is_dir():
            skip = lambda _, names: [name for name in names if any(fnmatch(name, one) for one in left_out)]  # noqa: E731
            shutil.copytree(context / source, path, symlinks=True, ignore=skip, dirs_exist_ok=True)
        else:
            shutil.copyfile(context / source, path)
