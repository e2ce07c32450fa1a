"""Secrets in command lines, SQL and configuration, where a space separates a name and its value."""

import re
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span, looks_random
from otel_telemetry.processors.detect.names import keys, looks, places
from otel_telemetry.processors.detect.names.looks import Form
from otel_telemetry.processors.detect.text.letters import is_drawn

_COMMAND: Final = 160
_SHORTEST_TOKEN: Final = 16
_CLIENT: Final = re.compile(
    r"(?<![0-9A-Za-z_/.-])(?:/[\w/.-]{0,60}/)?"
    r"(?P<name>mysql|mariadb|sshpass|redis-cli|mongo|az login|zip|unzip|7z|ldap|psexec"
    r"|smbclient|openssl|sqlcmd|bcp|isql|osql|tsql|oc login|cf login|unrar|rar|mosquitto_|rabbitmqadmin|cqlsh|snowsql"
    r"|ncftp|ipmitool|racadm|rdesktop|xfreerdp|wfreerdp|plink|pscp|psftp|putty|signtool|useradd|usermod)"
    r"[\w-]{0,20}(?:\.exe)?(?= |$)[^|;&\n]{0,140}$",
    re.IGNORECASE,
)
#: The option that each of them takes a password behind, with a space or without.
_OPTION_OF: Final = {
    #: Behind a space stands the database, unless one follows.
    **dict.fromkeys(("mysql", "mariadb"), re.compile(r"-p(?:(?! )| ['\"]?[^\s'\"]{3,80}['\"]? [A-Za-z])")),
    "redis-cli": re.compile("-a "),
    **dict.fromkeys("sqlcmd bcp isql osql tsql mosquitto_ ipmitool".split(), re.compile("-P")),
    **dict.fromkeys(("plink", "pscp", "psftp", "putty"), re.compile("-pw ")),
    **dict.fromkeys(("xfreerdp", "wfreerdp", "signtool"), re.compile("/p")),
    **dict.fromkeys(("zip", "unzip"), re.compile("-P")),
    "ldap": re.compile("-w"),
    "openssl": re.compile("-k "),
}
_ANY_P: Final = re.compile("-p")
#: What may stand behind `-p` without being a password.
#: Clients that take `login:password` behind an option of their own.
_LOGIN_CLIENT: Final = re.compile(
    r"(?ai)(?<![0-9A-Za-z_.-])(?:curl|https?|httpie|xh|ab|siege|etcdctl|lftp|wget|hey)(?:\.exe)?(?= |$)[^|;&\n]{0,140}$"
)
_LONG_OPTIONS: Final = frozenset({"ort", "assword", "rint", "rotocol", "ager"})
#: A function that is given a password, by its name: `setPassword`, `.password`.
_SETS_PASSWORD: Final = re.compile(
    r"(?ai)(?:^|[.>:])(?:set|with|use|change|update)?_?(?:db|user|new|key_?store|proxy)?_?(?:password|passwd|pwd|passphrase)$"
)
#: What stands on a line before a word for password, where a text between quotes sets it.
_SETS_ON_LINE: Final = re.compile(r"(?:^|[\r\n\"'])[ \t]*(?:@|set |local |#define \w{0,30})?$")
_LINE_ENDS: Final = re.compile(r"\\{0,15}[\"'][ \t;]{0,4}(?:$|[\r\n]|\\{0,15}[\"'])")
_SQL: Final = re.compile(r"(?i)(?a:\b)(?:user|role|login)(?a:\b)[^;]{0,100}$")

_SQL_STATEMENT: Final = re.compile(r"(?a:\b)(?i:create|alter|grant|connect to)(?a:\b)|IDENTIFIED BY")
#: Services beside whose names ids of events stand.
_WITNESSES: Final = frozenset(
    "sentry datadog newrelic dynatrace honeycomb rollbar bugsnag splunk jenkins gitlab bitbucket codecov sonarqube"
    " dockerhub confluent cloudflare heroku netlify shopify zendesk hubspot".split()
)
#: Behind the name of a service, what says that a secret of it follows; and a value that is no word then.
_SECRET_OWNER: Final = re.compile(r"(?i)secret|private|token|key|access")
_UNBROKEN: Final = re.compile(r"[A-Za-z]{20,64}|\d{20,64}|(?=[A-Za-z]{0,40}\d)[0-9A-Za-z]{14,64}")
_SQL_WORDS: Final = frozenset("expire values certificate globally null random externally authentication".split())
_DEVICE_WORDS: Final = frozenset(
    "authentication service encryption level string rotation characters chars digits letters times attempts days"
    " minutes hours seconds support length service".split()
)


def keyword_token(text: str, match: re.Match[str]) -> Span | None:
    """Accept a random-looking value right behind a word such as secret or token, with next to nothing between them."""
    start, end = match.span("v")
    while text[end - 1] in ".-_":
        end -= 1
    value, last = text[start:end], match["key"].lower()
    owner = keys.classify(match["key"].replace(" ", "_"))
    if owner in ("", keys.LIKELY) and last in ("access", "private") and not match["key"].isupper():
        return None
    if not owner and last.endswith(("key", "token")):
        return None
    if len(value) < _SHORTEST_TOKEN or looks.is_ordinary(value) or (last == "key" and looks.is_uuid(value)):
        return None
    return Span(start, end) if looks.is_token(value) or is_drawn(value) else None


def login_and_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept `login:password` as a command takes it, if the password is no variable, placeholder or number."""
    del text
    name, _, value = match["v"].partition(":" if ":" in match["v"] else ",")
    value = value.rstrip("]>")
    if not value:  # a token takes the place of the name
        return Span(match.start("v"), match.end("v") - 1) if looks.is_token(name) else None
    if (
        looks.is_reference(value)
        or value.isdigit()
        or looks.is_placeholder(value)
        or looks.is_marked(value)
        or match["v"].startswith("+%")
    ):
        return None
    return Span(match.start("v"), match.end("v"))


def client_login(text: str, match: re.Match[str]) -> Span | None:
    """Accept `-a login:password` and the like of the clients that take it."""
    before = text[max(0, match.start() - _COMMAND) : match.start()]
    return login_and_password(text, match) if _LOGIN_CLIENT.search(before) else None


def flag(text: str, match: re.Match[str]) -> Span | None:
    """Accept the value of a command-line option whose name says that it is secret."""
    del text
    return option(match["key"], match)


def option(key: str, match: re.Match[str]) -> Span | None:
    """Accept the value behind the option `key`; `match` has its quote as `q`, and the value as `v`."""
    kind, value = keys.classify(key), match["v"]
    if not kind or looks.stands_in(value) or looks.is_marked(value) or (not match["q"] and places.is_prose_word(value)):
        return None
    kind = keys.PASSWORD if key.lstrip("-") in ("pass", "pw") else kind
    form = Form(quoted=match["q"] != "", spaced=False, separator=" ")
    if kind in keys.WEAK_KINDS:
        return Span(*match.span("v"), keys.found_as(key)) if looks.weak(kind, value, form) else None
    return Span(*match.span("v"), kind) if looks.strong(kind, value) else None


def client_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept `-pPASSWORD` and the like of the database clients that take it."""
    before = text[max(0, match.start() - _COMMAND) : match.start()]
    client = _CLIENT.search(before)
    if client is None or not _OPTION_OF.get(client["name"].lower(), _ANY_P).match(text, match.start() + 1):
        return None
    value = match["v"]
    if looks.stands_in(value) or looks.is_marked(value) or value.split("=")[0] in _LONG_OPTIONS:
        return None
    return Span(*match.span("v"))


def plain_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept what stands where a password stands, if it is no variable or placeholder."""
    start, end = match.span("v")
    value = text[start:end]
    if looks.is_reference(value) or looks.is_placeholder(value) or looks.is_marked(value):
        return None
    if not looks.WORD.fullmatch(value) or match[0].lower().startswith("identified"):
        return Span(start, end)
    low = max(0, match.start() - _COMMAND)
    if looks.is_literal(keys.PASSWORD, value) and _SETS_ON_LINE.search(text, low, match.start()):
        return Span(start, end) if _LINE_ENDS.match(text, end) else None
    return Span(start, end) if _SQL.search(text, low, match.start()) else None


def named_argument(text: str, match: re.Match[str]) -> Span | None:
    """Accept what stands in a fixed place for a secret: a block of Terraform, crypt(), sqlplus, a line of .pgpass."""
    group = "v" if match["v"] is not None else "quoted"
    value = match[group]
    key = match.groupdict().get("key")
    kind = keys.classify(key) if key else ""
    if (key and (not kind or kind in keys.WEAK_KINDS)) or looks.is_marked(value) or looks.stands_in(value):
        return None
    if group == "v" and key and places.is_prose_word(value):
        return None
    if key is None and value.startswith(("/", "$")):
        return None
    del text
    return Span(*match.span(group), kind)


def any_argument(text: str, match: re.Match[str]) -> Span | None:
    """Accept the one group that matched, if it stands for nothing else."""
    del text
    group = next(name for name, value in match.groupdict().items() if value is not None)
    wrong = looks.is_marked(match[group]) or looks.stands_in(match[group])
    return None if wrong else Span(*match.span(group))


def sql_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept the password of a statement about users, which may have no quotes."""
    group = "v" if match["v"] is not None else "quoted"
    value = match[group]
    if looks.stands_in(value) or looks.is_marked(value) or value.lower() in _SQL_WORDS:
        return None
    before = text[max(0, match.start() - _COMMAND) : match.end()]
    if group == "v" and not _SQL_STATEMENT.search(before):
        return None
    return Span(*match.span(group))


def device_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept the password in a line of a network device's configuration."""
    del text
    value = match["v"]
    if looks.stands_in(value) or looks.is_marked(value) or value[-1] == ".":
        return None
    return None if places.is_prose_word(value) or value in _DEVICE_WORDS else Span(*match.span("v"))


def bearer(text: str, match: re.Match[str]) -> Span | None:
    """Accept what stands behind the scheme of a credential, if it looks drawn at random."""
    del text
    value = match["v"]
    return Span(*match.span("v")) if looks_random(value) or is_drawn(value) else None


#: The name of a model with the day of its version: `claude-sonnet-4-20250514`.
_DATED: Final = re.compile(r"[a-z][a-z0-9.]{1,20}(?:-[a-z0-9.]{1,12}){0,4}-20\d{6}")


def service_key(text: str, match: re.Match[str]) -> Span | None:
    """Accept a value beside the name of a service, if it looks drawn at random and is no id of an event or a pod."""
    value, separator = match["v"].rstrip("."), match["sep"]
    named = match["owner"] != ""
    if looks.is_marked(value) or looks.is_sample(value) or looks.is_ordinary(value):
        return None
    glued = separator == "-" and text[match.start("sep") - 1] != " "
    if not named and (glued or match["service"].lower() in _WITNESSES):
        return None
    owned = _SECRET_OWNER.search(match["owner"]) is not None and _UNBROKEN.fullmatch(value) is not None
    if not (owned or looks.is_token(value) or looks.is_uuid(value) or is_drawn(value)):
        return None
    if not named and _DATED.fullmatch(value):
        return None
    start = match.start("v")
    return Span(start, start + len(value))


def constructor_key(text: str, match: re.Match[str]) -> Span | None:
    """Accept a text in quotes that a client or a login is made with, if it looks drawn at random."""
    del text
    value = match["v"]
    if looks.is_marked(value) or looks.is_sample(value) or looks.is_ordinary(value) or looks.is_snake_case(value):
        return None
    return Span(*match.span("v")) if looks.is_token(value) or is_drawn(value) else None


def called_with(text: str, match: re.Match[str]) -> Span | None:
    """Accept a text in quotes that a function is called with whose name says that it is a password."""
    del text
    value = match["v"]
    if looks.stands_in(value) or looks.is_marked(value) or looks.is_template(value) or looks.is_snake_case(value):
        return None
    likely = looks.weak(keys.LIKELY, value, Form(quoted=True, spaced=False, separator="("))
    if not likely and "key" in match.re.groupindex and _SETS_PASSWORD.search(match["key"]):
        likely = looks.is_literal(keys.PASSWORD, value)
    return Span(*match.span("v")) if likely else None
