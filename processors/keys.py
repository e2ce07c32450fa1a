"""What a name says about its value: `password`, `dbPassword`, `X-Api-Key` and `http.request.header.cookie` alike.

Used for attribute keys, keys of nested maps, and the left side of assignments in text (assignments.py).
"""

import re
from functools import lru_cache
from typing import Final

from otel_telemetry.processors.folding import fold

PASSWORD: Final = "PASSWORD"  # noqa: S105  # the name of a type
SECRET: Final = "SECRET"  # noqa: S105  # the same
API_KEY: Final = "API_KEY"
PRIVATE_KEY: Final = "PRIVATE_KEY"
AUTHORIZATION: Final = "AUTHORIZATION"
COOKIE: Final = "COOKIE"
USER_ID: Final = "USER_ID"
SESSION_ID: Final = "SESSION_ID"
SSN: Final = "SSN"
CREDIT_CARD: Final = "CREDIT_CARD"
#: Every type that a key alone can give.
TYPES: Final = frozenset(
    {PASSWORD, SECRET, API_KEY, PRIVATE_KEY, AUTHORIZATION, COOKIE, USER_ID, SESSION_ID, SSN, CREDIT_CARD}
)
#: A name such as `cache_key` that may hold a secret: only a random-looking value counts.
WEAK: Final = "weak"

#: A name such as `acme_key`, which is most likely the vendor's: a value drawn at random counts, a UUID too.
VENDOR: Final = "vendor"

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BREAKS: Final = re.compile(r"[^A-Za-z0-9]")
_PASSWORDS: Final = frozenset("password passwd pwd passphrase passcode pass passwort pw pswd".split())
_PASSWORDS_INSIDE: Final = ("password", "passwd", "passphrase")
_KEY_OWNERS: Final = frozenset(
    "api app access secret private auth encryption encrypt signing signature master account storage shared service"
    " license subscription hmac aes rsa ssh deploy write read admin consumer integration rest webhook".split()
)
#: What has keys that are no secrets.
_PLAIN_OWNERS: Final = frozenset(
    "cache idempotency primary foreign partition sort routing dedup deduplication message object row record"
    " request response correlation group hash range index map registry public lookup redis s3 bucket blob file"
    " feature flag i18n translation text label field column config setting env metric tag topic queue shard"
    " item entity resource unique composite business natural surrogate json dict attribute attr property prop"
    " header param query form event trace span log session user tenant project account job task run step node"
    " edge table schema db database entry lock rate limit order parent child root path url uri image media"
    " upload document doc issue ticket commit build pipeline release test case meta pub first last next prev"
    " start end min max new old any every the that".split()
)
_NOT_TOKENS: Final = frozenset(
    "page next continuation pad eos bos unk sep cls mask stop start end first last per max min sync time special input"
    " output cached prompt completion total reasoning num count new delta inline".split()
)
#: Words after a name that leave it a name of the value itself.
_TAILS: Final = frozenset(
    "value confirmation confirm again old new raw plain text string base64 b64 prod dev test default hash base".split()
)
_PHONES: Final = frozenset("tel mobile cell msisdn fax telefon whatsapp phoneno mobileno mobilenumber".split())
_NUMBER_WORDS: Final = frozenset("number no nr num e164 value home work main primary".split())
_SECRET_WORDS: Final = frozenset(
    {"secret", "secrets", "credential", "credentials", "creds", "cred", "apikey", "accesskey", "secretkey", "authtoken"}
)
_EXACT: Final = {
    "authorization": AUTHORIZATION,
    "cookie": COOKIE,
    "userid": USER_ID,
    "sessionid": SESSION_ID,
    "jsessionid": SESSION_ID,
    "phpsessid": SESSION_ID,
    "ssn": SSN,
    "apikey": API_KEY,
    "accesskey": API_KEY,
    "privatekey": PRIVATE_KEY,
}


@lru_cache(maxsize=8192)
def classify(key: str) -> str:
    """Return the type of what `key` names (PASSWORD, COOKIE, ...), WEAK, or "" for an ordinary name."""
    name = key[-128:]
    if not name.isascii() and (folded := fold(name)) is not None:
        name = folded.text
    words = _BREAKS.split(_CAMEL.sub("_", name).lower())
    if len(words) > 1 and words[-1] in _TAILS:
        words.pop()
    last = words[-1].rstrip("0123456789") or words[-1]
    before = words[-2] if len(words) > 1 else ""
    if last in _EXACT:
        return _EXACT[last]
    if last in _PASSWORDS or last.endswith(_PASSWORDS_INSIDE):
        return PASSWORD
    if last == "id" and before in ("user", "enduser", "session"):
        return SESSION_ID if before == "session" else USER_ID
    return _secret(last, before)


@lru_cache(maxsize=8192)
def names_phone(key: str) -> bool:
    """Tell whether a key says that its value is a telephone number: the digits alone look like any other number."""
    words = [word for word in _BREAKS.split(_CAMEL.sub("_", key[-128:]).lower()) if word]
    while len(words) > 1 and words[-1] in _NUMBER_WORDS:
        words.pop()
    return bool(words) and (words[-1] in _PHONES or words[-1].endswith(("phone", "phonenumber")))


def is_strong(key: str) -> bool:
    """Tell whether a key alone says that its value is a secret or personal, whatever the value looks like."""
    return classify(key) not in ("", WEAK, VENDOR)


def _secret(last: str, before: str) -> str:
    if last in _SECRET_WORDS or last.endswith(("secret", "apikey")):
        return API_KEY if last.endswith("apikey") else SECRET
    if last.endswith("token"):
        return "" if before in _NOT_TOKENS else SECRET
    if last == "key":
        if before == "private":
            return PRIVATE_KEY
        return (API_KEY if before in ("api", "access") else SECRET) if before in _KEY_OWNERS else _vague(before)
    if last == "auth":
        return WEAK if not before else SECRET if before in ("basic", "proxy", "http") else WEAK
    return WEAK if last.endswith("key") or last in ("signature", "sig") else ""


def _vague(owner: str) -> str:
    return VENDOR if len(owner) > 2 and owner.isalnum() and owner not in _PLAIN_OWNERS else WEAK


#: Triggers for keys in raw bytes: each key with a strong type above holds one of these.
KEY_TRIGGERS: Final = (
    *("(?i)" + word for word in "passw passphrase passcode pswd secret credential authorization cookie sessid".split()),
    *("(?i)" + word for word in "sessionid session[^a-z0-9]id user[^a-z0-9]id userid privatekey".split()),
    *(
        f"(?i)(?:{'|'.join(sorted(owner for owner in _KEY_OWNERS if len(owner) == length))}){gap}key"
        for length in sorted({len(owner) for owner in _KEY_OWNERS})
        for gap in ("", "[^a-z0-9]")
    ),
)
#: The same with one character behind the key, which only rules out longer words and is no part of the place. `J` is
#: the tag of a span attribute, which may stand behind a key that a sender wrote after its value.
KEY_TRIGGERS_AHEAD: Final = (
    "(?i)token[^sS]",
    *(f"(?i){word}[^A-IK-Z ,.;:!?'\")]" for word in ("phone", "phonenumber", *sorted(_PHONES))),
    *(f"(?i){word}[^A-IK-Z]" for word in ("cred", "creds", "pwd", "pass", "pw", "auth", "ssn")),
)
