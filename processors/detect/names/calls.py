"""Passwords by their place among the arguments of calls that log in: `connect("host", "user", "x")`.

Which argument it is depends on the function. One that other libraries use too, such as a bare `connect`, counts where
the argument before is the name of a login.
"""

import re
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span
from otel_telemetry.processors.detect.names import keys, looks
from otel_telemetry.processors.detect.names.looks import Form

_ARGUMENT: Final = re.compile(
    r"\s{0,16}(?:(?P<q>\\{0,15}[\"'`])(?P<v>(?:[^\"'`\\\r\n]|\\{1,15}(?=\w)){0,256}+)(?P=q)|(?P<name>[\w.$>\[\]-]{1,60}+))"
    r"(?:\.\w{1,20}\(\))?\s{0,16}(?P<next>[,)])"
)
_MOST: Final = 5
#: Functions that take host, login and password, or database, login and password.
_THIRD: Final = re.compile(
    r"(?ai)(?:mysql|mariadb|maxdb|mssql|sqlsrv|sybase|odbc|ibm_db|ingres|fbird|ibase)\w{0,12}(?:\.connector)?[._]p?connect$|mysqli$|\bPDO$"
    r"|getConnection$|Sequelize$|\bFTP(?:_TLS)?$|PlainAuth$|\bDBI(?:->|\.)connect$|odbc_connect$|\bDirectoryEntry$"
)
#: Functions that take login and password.
_SECOND: Final = re.compile(
    r"(?ai)(?:oracle\w{0,4}(?:\.|_)|oracledb\.|oci_?p?n?)(?:connect|logon)$|oci_?p?(?:connect|logon)$|NetworkCredentials?$"
    r"|PasswordCredentials?$|PasswordAuthentication(?:Token)?$|Credentials\.basic$|basic_?auth(?:entication)?$|digest_?auth$"
    r"|(?:smtp|ftp|imap|mail|server|client|conn|session|mailbox|pop)\w{0,12}(?:\([^()]{0,80}\))?(?:\.|->)(?:login|authenticate)$|auth=$"
)
_LOGIN: Final = re.compile(
    r"(?i)(?:root|admin|administrator|sa|user|username|postgres|system|sys|scott|guest|dba|db_?user|mysql|oracle|app|test|neo4j|default"
    r"|[\w.+-]{1,60}@[\w.-]{1,60})\d{0,3}"
)
_NUMBER: Final = re.compile(r"\d{2,5}")
#: The address of a database: `mysql:host=h`, `jdbc:mysql://h/x`, `dbi:mysql:x`.
_ADDRESS: Final = re.compile(
    r"(?i)(?:jdbc|dbi|mysql|pgsql|sqlite|oci|sqlsrv|odbc|bolt|neo4j|postgres\w{0,4})\+?\w{0,3}:"
)
_LOGIN_SLASH: Final = re.compile(r"[\w$#.]{1,60}/(?P<v>[^\s@/]{2,100})@")
_QUOTED: Final = Form(quoted=True, spaced=False, separator="(")


def login_call(text: str, match: re.Match[str]) -> Span | None:
    """Accept the argument that is the password, if it is a text between quotes that may be chosen as one."""
    arguments = _arguments(text, match.end())
    function = match["function"]
    if arguments and (inside := _LOGIN_SLASH.match(arguments[0]["v"] or "")) and _SECOND.search(function):
        start = arguments[0].start("v")
        return Span(start + inside.start("v"), start + inside.end("v"))
    place = _place(function, arguments)
    if not 0 < place < len(arguments) or not arguments[place]["v"]:
        return None
    value = arguments[place]["v"]
    if looks.stands_in(value) or looks.is_marked(value) or looks.is_template(value) or looks.is_snake_case(value):
        return None
    if value == arguments[place - 1]["v"] or keys.classify(value):
        return None
    chosen = looks.is_literal(keys.PASSWORD, value) or looks.weak(keys.LIKELY, value, _QUOTED)
    return Span(*arguments[place].span("v")) if chosen else None


def _arguments(text: str, at: int) -> list[re.Match[str]]:
    """Return the first arguments of a call, so far as they are texts between quotes, names and numbers."""
    found: list[re.Match[str]] = []
    while len(found) < _MOST and (argument := _ARGUMENT.match(text, at)):
        found.append(argument)
        at = argument.end()
        if argument["next"] == ")":
            break
    return found


def _place(function: str, arguments: list[re.Match[str]]) -> int:
    """Return the number of the argument that is the password, counted from 0; 0 where none is."""
    given = [argument["v"] if argument["v"] is not None else argument["name"] for argument in arguments]
    if _SECOND.search(function):
        return 1
    third = _THIRD.search(function) is not None or (given and _ADDRESS.match(given[0]) is not None)
    logins = [at for at, value in enumerate(given[1:3], 1) if _LOGIN.fullmatch(value)]
    if third:
        return 2
    if not function.lower().endswith(("connect", "open", "connection")) or not logins:
        return 0
    before = given[logins[0] - 1]
    return logins[0] + 1 if logins[0] == 1 or _NUMBER.fullmatch(before) else 0
