"""Removes a password in `--db` from the process list, where every user of the machine can read it.

The process executes itself again, under the same id, with the URL in its environment, which only its own user can read.
"""

import os
import re
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

#: Written out, because importing the settings takes longer than the rest of a start.
VARIABLE: Final = "OTEL_TELEMETRY_REQUEST_LOG__URL"
WARNING: Final = (
    f"the password in --db could be read by every user of this machine until now; set {VARIABLE} instead, "
    "or request_log.url in otel-telemetry.toml"
)
_OPTION: Final = "--db"
_PASSWORD: Final = re.compile(r"://[^/@?#]*:[^@]+@|[?&]password=", re.IGNORECASE)
_AGAIN: Final = "_PASSWORD_WAS_IN_DB"  # not of our prefix, where unknown names are errors
_RUNS_OTHERS: Final = "run"  # what stands behind it is the app's


def hide_password(arguments: Sequence[str]) -> bool:
    """Run this process anew where its arguments hold a password; return whether that was done before.

    `arguments` are those of the command line, without the program.
    """
    if os.name != "posix" or arguments[:1] == [_RUNS_OTHERS]:
        return False
    url, rest = _without_url(arguments)
    if _PASSWORD.search(url):
        _run_anew(url, rest, len(arguments))
    return os.environ.pop(_AGAIN, None) is not None


def _run_anew(url: str, rest: Sequence[str], count: int) -> NoReturn:
    own = list(sys.orig_argv)
    command = own[1 : len(own) - count]  # what runs this program: options of Python, and its file or module
    os.environ[VARIABLE] = url
    os.environ[_AGAIN] = "1"
    os.execv(sys.executable, [sys.executable, *command, *rest])  # noqa: S606 - ourselves


def _without_url(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the URL of the database, and the arguments without it. Of several the last one counts."""
    url = ""
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == _OPTION:
            url = next(waiting, "")
        elif argument.startswith(f"{_OPTION}="):
            url = argument.partition("=")[2]
        else:
            rest.append(argument)
    return url, rest
