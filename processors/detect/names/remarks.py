"""Words that describe a secret or belong to its context: they occur in the position of a value, and are not one."""

import re
from typing import Final

from otel_telemetry.processors.detect.names import places

#: Endings of words that describe a password: expired, missing, weakest, optional.
_ENDING: Final = re.compile(r"(?:[aeio]ble|ed|ing|ful|less|ive|ous|ly|ical|ional|ent|ant|ary|ory|est|[tk]en)$")
#: Those of them that nouns have too, and the adjectives with these.
_NOUN_ENDING: Final = re.compile(r"(?:ent|ant|ary|ory|est)$")
_LIKE_NOUNS: Final = frozenset(
    "different current recent consistent inconsistent redundant relevant irrelevant significant persistent permanent"
    " equivalent sufficient insufficient dependent independent urgent frequent necessary unnecessary temporary primary"
    " secondary arbitrary ordinary binary mandatory obligatory compulsory weakest strongest longest shortest latest"
    " oldest newest request test manifest digest content document client parent environment argument agent".split()
)
#: Words that describe a password.
_REMARKS: Final = frozenset(
    "weak strong short long longer shorter valid correct right wrong same different good bad okay blank plain"
    " simple secure unsafe insecure safe random unique stale fine gone lost here there known public private old new"
    " visible set reset sent kept read shown shared stored stolen out in on off up down back due dead alive active"
    " inactive ready easy hard common complex case plaintext plain-text base64 ascii utf-8 bcrypt argon2 sha256 md5"
    " hash confidential personal static dynamic special available unavailable present absent written given taken"
    " chosen broken null-terminated alphanumeric numeric readonly read-only write-only one another nothing something"
    " anything everything also still now never always already currently again often just really about like because"
    " after before until when while unless since later soon yours mine hers theirs ours such both either all any"
    " each more most less least enough far near next last first second third tracked managed between within without"
    " only incorrect compromised".split()
)
#: Nouns that make another word with `password` before them, and what is done where one is asked for.
_COMPANY: Final = frozenset(
    "authentication protection manager managers policy policies hash hashes hashing field fields input prompt"
    " file files generator generation strength recovery entry entries form expiry expiration rotation encryption"
    " decryption storage dialog screen page pages link links email emails hint hints requirement requirements rule"
    " rules length complexity validation validator check checks checker mismatch error errors failure failures"
    " grant flow type types database store vault list update updates provider support security string strings"
    " parameter argument option options column variable token tokens reuse history sharing box based auth"
    " verification confirmation format handling logic protocol management guessing attack attacks login logins"
    " logon signin username usernames user users name key keys phrase access account accounts credential"
    " credentials secret secrets server service system app application client config configuration settings"
    " continue proceed sign protect regain unlock confirm enable verify prevent keep ensure use get gain complete"
    " activate begin start avoid restore recover connect view see open read save submit finish match work stay"
    " remain phone number birthday birthdays address twice again once ssh ldap oauth kerberos totp otp none null"
    " nil true false default undefined comment comments attempts attempt itself lowercase uppercase letters digits"
    " characters text words plain today tomorrow yesterday me us them him".split()
)
#: The same in other languages, by how the word begins.
ELSEWHERE: Final = re.compile(
    r"(?i)(?:obrigat|obligat|requ[ei]|incor|inv[aá]l|falsch|erforder|pflicht|verges|abgelauf|ung[uü]lt"
    r"|zwingend|oubli|expir|abgel|ge[aä]ndert|[aä]ndern|bekannt|gespeichert|notwendig|zu |nicht|auf"
    r"|obblig|errat|sbagliat|scadut|dimentic|necess|neces|menudo|modific|cambiad|guardad|feil|forkert"
    r"|ugyldig|utl[oø]p|n[oø]dvend|p[aå]krev|kr[aä]v|ogiltig|wajib|salah|harus|tidak|b[aắ]t bu"
    r"|kh[oô]ng|b[iị]|sai|incorec|gre[sș]it|expirat|pogre[sš]|neva[zž]|obavez|hib[aá]s|k[oö]telez"
    r"|helytelen|λάθ|υποχρ|απαιτ|грешн|задълж|измен|сброш|сохран|админ|польз|невірн|обов|غير|مطلوب"
    r"|خاطئ|गलत|आवश्यक|ไม่|ต้อง|שגוי|חובה|为空|必填|正确|無効|必須|間違|変更|空|설정|변경|만료|인증|manquant|esquec|olvid"
    r"|vazi|vac[ií]|leer|vide|verpl|vereist|ongeldig|wygas|wymag|niepraw|zapom|chybn|povinn|p[aå]kr"
    r"|glemt|fel|pakoll|v[aä][aä]r|zorunlu|ge[cç]er|yanl|unut|введ|невер|неправ|обяз|забы|треб|истек|必"
    r"|错|不|忘|請|请|入力|入れ|필수|잘못|입력)"
)


def something(word: str) -> bool:
    """Return whether a word describes a password and is not the password."""
    small = word.lower()
    return small in _REMARKS or places.is_prose_word(small) or _ENDING.search(small) is not None


def describes(word: str) -> bool:
    """Return the same for a text in quotes: nouns such as `tournament` and `forest` end like adjectives."""
    small = word.lower()
    return something(word) and (_NOUN_ENDING.search(small) is None or small in _LIKE_NOUNS or small in _REMARKS)


def keeps_company(word: str) -> bool:
    """Return whether a word goes on from `password`, as in `password policy` and `password to continue`."""
    return word.lower().rstrip(".,;:!?") in _COMPANY or something(word)
