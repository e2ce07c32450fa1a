"""IPv4 and IPv6 addresses, distinguished from versions and from code."""

import re
import socket
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span

_V4: Final = re.compile(r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.]*[0-9])")
_CIDR: Final = re.compile(r"/[0-9]{1,3}(?![0-9A-Za-z_]|\.[0-9])")
_ZONE: Final = re.compile(r"%[0-9A-Za-z_.-]{1,32}")
_NAME_CHARACTERS: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
#: How an address goes on, and a version does not: a port, the length of a prefix.
_ADDRESS_BEHIND: Final = re.compile(r":[0-9]{2,5}(?![0-9])|/[0-9]{1,2}(?![0-9A-Za-z.])")
_VERSION_BEFORE: Final = re.compile(
    r"(?:\bv|version|release|build|ver|revision|firmware|(?:up|down)graded? to|section|chapter|clause|figure|\u00a7)"
    r"(?: is| was)?"
    r"[\s\"'=:\\\]]{0,6}$|[A-Za-z]/$",
    re.IGNORECASE,
)
#: What follows a version and never an address.
_VERSION_BEHIND: Final = re.compile(
    r"[-+._](?:rc|alpha|beta|snapshot|dev|ga|final|build|release|p|el|ubuntu|deb|fc|pre|post|preview|hotfix)[.\-]?\d{0,8}(?![a-z])"
    r"|[-_.](?:jar|zip|tar|tgz|gz|xz|exe|dll|msi|deb|rpm|whl|apk|dmg|pkg|nupkg|so|amd64|x86|x64|arm64|linux|win|macos)\b",
    re.IGNORECASE,
)
#: Programs whose names stand before their versions; few addresses begin with two numbers as small as a version's.
_PRODUCTS: Final = (
    "nginx openresty apache httpd tomcat jetty haproxy envoy traefik caddy iis openssl openssh libressl"
    " php python cpython ruby perl nodejs node.js deno bun java jdk jre openjdk golang rust gcc clang llvm"
    " chrome chromium chromedriver firefox safari opera electron webkit curl libcurl wget git docker"
    " containerd kubernetes k8s helm linux kernel android ios macos windows office mysql mariadb postgres"
    " postgresql sqlite redis mongodb oracle elasticsearch opensearch kibana logstash kafka zookeeper"
    " rabbitmq spring hibernate django flask rails laravel wordpress drupal react angular vue jquery numpy"
    " pandas scipy pytorch torch tensorflow cuda cudnn driver bios sdk ndk cli plugin library assembly"
    " dotnet .net unity unreal ffmpeg vlc grafana prometheus jenkins gitlab terraform ansible gradle maven"
    " npm yarn pip patch suricata nessus splunk".split()
)
_PRODUCT: Final = re.compile(
    rf"(?<![A-Za-z])(?:{'|'.join(map(re.escape, _PRODUCTS))})[\s\"'=:\-_\\(\]]{{1,4}}$", re.IGNORECASE
)
#: With what a word before a version ends. To search for the whole takes ten times as long.
_ENDINGS: Final = (
    *_PRODUCTS,
    *("v", "version", "release", "build", "ver", "revision", "firmware", "grade to", "graded to", "section", "chapter"),
    *("clause", "figure", "\u00a7", " is", " was"),
)
_EQUALS: Final = re.compile(r"([A-Za-z0-9_.\-\]]+)[~=]=\s?[\"']?$")
_ADDRESS_NAMES: Final = (
    *("addr", "address", "ip", "ipv4", "host", "src", "dst", "source", "target", "from", "to", "peer"),
    *("server", "client", "remote"),
)
_AROUND: Final = " \t\r\n\"'=:\\-_(]"
_REACH: Final = 32
_MOST_MAJOR: Final = 32
_MOST_MINOR: Final = 99


def ip(text: str, match: re.Match[str]) -> Span | None:
    """Accept an IPv4 or IPv6 address with its zone and prefix length, unless it is part of a version or of code."""
    raw, start = match["v"], match.start("v")
    if raw.count(":") >= 2:
        trimmed = raw.rstrip(".")
        trimmed = trimmed if trimmed.endswith("::") else trimmed.rstrip(":")
        if trimmed[:1] == ":" and not trimmed.startswith("::"):
            start, trimmed = start + 1, trimmed[1:]
        if is_v6(trimmed) and not (len(trimmed) <= 4 and _in_code(text, start, start + len(trimmed))):
            found = _address(text, start, start + len(trimmed))
            if found is not None:
                return found
    return _v4(text, match.start("v"), match.end("v"))


def _v4(text: str, start: int, end: int) -> Span | None:
    found = _V4.search(text, start, min(len(text), end + 4))
    if found is None or found.start() >= end or max(map(int, found[0].split("."))) > 255:
        return None
    return None if is_version(text, found.start(), found.end()) else _address(text, found.start(), found.end())


def is_version(text: str, start: int, end: int) -> bool:
    """Return whether four numbers with dots are a version, by what stands around them."""
    if _ADDRESS_BEHIND.match(text, end):
        return False
    if _VERSION_BEHIND.match(text, end) and text[start - 1 : start] != "@":
        return True
    before = text[max(0, start - _REACH) : start]
    word = before if before[-1:] == "/" else before.rstrip(_AROUND)
    last = word[-1:]
    if not (last.isalpha() or last == "/" or before.rstrip(" \"'").endswith("==")):
        return False  # what most addresses stand behind
    named = last == "/" or word.lower().endswith(_ENDINGS)
    if named and _VERSION_BEFORE.search(before):
        return not before.endswith("//")
    first, second, _ = text[start:end].split(".", 2)
    if int(first) == 10 or int(first) > _MOST_MAJOR or int(second) > _MOST_MINOR:
        return False
    equals = _EQUALS.search(before) if "==" in before or "~=" in before else None
    if equals is not None:
        return not equals[1].lower().endswith(_ADDRESS_NAMES)
    return named and _PRODUCT.search(before) is not None


def is_v6(text: str) -> bool:
    """Return whether a text is an IPv6 address."""
    try:
        socket.inet_pton(socket.AF_INET6, text)  # a tenth of the time that ipaddress takes
    except (OSError, ValueError):
        return False
    return True


def _in_code(text: str, start: int, end: int) -> bool:
    """Return whether it is a slice, `items[::2]`, or a scope, `Foo::1`, and not `::1` or `::`."""
    before, after = text[max(0, start - 2) : start], text[end : end + 1]
    if text[start:end] not in ("::", "::1"):
        return not (before[-1:] in ("", " ", "=") and after in ("", " ", "/", ",", "\n"))
    return before[-1:] in _NAME_CHARACTERS or (before[-1:] == "[" and (before[0].isalnum() or before[0] in ")]_"))


def _address(text: str, start: int, end: int) -> Span | None:
    after = text[end : end + 1]
    if after in _NAME_CHARACTERS or (":" in text[start:end] and start and text[start - 1] in _NAME_CHARACTERS):
        return None
    if after == "%" and (zone := _ZONE.match(text, end)):
        end = zone.end()
    if text[end : end + 1] == "/" and (cidr := _CIDR.match(text, end)):
        end = cidr.end()
    return Span(start, end)
