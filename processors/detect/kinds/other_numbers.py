"""Numbers that are not a card, a telephone or an address although they look like one: what their names say.

One random number of sixteen digits in twenty-three passes for a card, and orders, invoices and ids have such numbers.
"""

import re
from functools import lru_cache
from typing import Final

from otel_telemetry.processors.detect.text.folding import fold

#: What has such a number of its own: the word alone names it.
_THINGS: Final = (
    "order|invoice|tracking|shipment|shipping|parcel|consignment|waybill|awb|booking|reservation"
    "|ticket|transaction|txn|receipt|po|rma|sku|ean|upc|gtin|isbn|imei|iccid|serial|batch|lot"
    "|correlation|snowflake|sequence|seq|offset|cursor|nonce"
    "|timestamp|hash|checksum|digest|etag|bestell|rechnungs|auftrags|sendungs|commande|facture|colis|suivi|pedido"
    "|factura|fatura|envio|ordine|fattura|spedizione|bestelling|factuur|zamowienie|siparis"
)
#: What may hold anything: its number is named by a word for numbers or ids, or follows a dash (`job-4111...`).
_HOLDERS: Final = "request|req|trace|span|message|msg|event|job|run|build|package|delivery|purchase|quote|claim"
_NUMBER: Final = (
    "numbers?|nummern?|nums?|nos?|nrs?|numero|n\u00famero|num\u00e9ro|ids?|codes?|keys?|refs?|reference|uuid|guid|#"
)
_IDS: Final = "ids?|uuids?|guids?"
#: The same in scripts that write no spaces, and in Russian and Arabic.
_OTHER_SCRIPTS: Final = (
    "\u8ba2\u5355\u53f7?|\u8a02\u55ae|\u8a02\u5355|\u53d1\u7968|\u767c\u7968|\u5feb\u9012|\u8fd0\u5355|\u6ce8\u6587|"
    "\u8acb\u6c42\u66f8|\u8ffd\u8de1|\u8ffd\u8e64|\uc8fc\ubb38|\uc1a1\uc7a5|\uc6b4\uc1a1\uc7a5|\u0437\u0430\u043a\u0430\u0437\u0430?|"
    "\u0441\u0447[\u0435\u0451]\u0442\u0430?|\u0446\u0438\u043b|\u0627\u0644\u0637\u0644\u0628|\u0637\u0644\u0628|\u0627\u0644\u0641\u0627\u062a\u0648\u0631\u0629"
)
_OTHER_NUMBER: Final = (
    "\u53f7\u7801?|\u865f\u78bc?|\u756a\u53f7|\ubc88\ud638|\u2116|\u043d\u043e\u043c\u0435\u0440|\u0631\u0642\u0645"
)
_START: Final = "(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
_NAME: Final = (
    rf"(?:{_START}(?i:(?:{_THINGS})(?:[\s_.\-]{{0,2}}(?:{_NUMBER}))?|(?:{_HOLDERS})[\s_.\-]{{0,2}}(?:{_NUMBER})|{_IDS})"
    rf"|(?:{_OTHER_NUMBER})?\s?(?:{_OTHER_SCRIPTS})\s?(?:{_OTHER_NUMBER})?)"
)
#: A name at the end of a text, with what may stand between it and its number.
_BEFORE: Final = re.compile(
    rf"{_START}(?i:{_HOLDERS})[_\-]$|{_NAME}[\s\"'`=:\uff1a#.\\(\[>|\-]{{0,12}}(?:(?:is|was)[\s\"':]{{1,3}})?$"
)
_KEY: Final = re.compile(rf"{_NAME}$")


def _spelt(*words: str) -> dict[str, tuple[str, ...]]:
    """Return the words of alternatives by their last letter, each with and without the one that is optional."""
    parts = [part for alternatives in words for part in alternatives.split("|")]
    spelt: dict[str, set[str]] = {}
    for word in (word for part in parts for word in (part.replace("?", ""), re.sub(".[?]", "", part))):
        spelt.setdefault(word[-1], set()).add(word)
    return {last: tuple(ending) for last, ending in spelt.items()}


#: What a name before a number ends with, but for those of other scripts: a word of its own, or one for numbers behind
#: it; and what is stripped to see that. To search for a whole name takes forty times as long.
_WHOLE: Final = _spelt(_THINGS, _HOLDERS, _IDS)
_NUMBERS: Final = _spelt(_NUMBER)
_VERBS: Final = ("is", "was")
#: Characters of a name in another script, with a verb behind it, at most.
_LONGEST_OTHER: Final = 24
_BETWEEN: Final = " \t\r\n\f\v\"'`=:#.\\([>|-_"
_JOINTS: Final = " \t\r\n\f\v\x1c\x1d\x1e\x1f_.-"
_BEHIND: Final = re.compile(r"[\"'\s,(\-]{1,4}(?:order|invoice|tracking)\b(?![\"'\s]{0,3}[:=])", re.IGNORECASE)
#: Earlier members of the same list.
_MEMBERS: Final = re.compile(r"\[\s{0,8}(?:\\{0,7}\"?[\w\-]{1,64}\\{0,7}\"?\s{0,3},\s{0,8}){1,40}\\{0,7}\"?$")
_FOUR: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_VERSION_KEY: Final = re.compile(r"(?:version|release|build|revision|firmware|_ver|\.ver)$", re.IGNORECASE)
_SHORTEST: Final = 12
_LONGEST: Final = 19
_WINDOW: Final = 320
_NEAR: Final = 64


def stands_for_other(text: str, start: int, end: int) -> bool:
    """Return whether the number between two places of a text is an order's, a parcel's, a request's and so on."""
    before = text[max(0, start - _WINDOW) : start]
    members = _MEMBERS.search(before) if before[-1:] in (" ", '"', ",") and "[" in before else None
    if members is not None:
        before = before[: members.start() + 1]
    named = _may_end_in_name(before) and _BEFORE.search(before[-_NEAR:]) is not None
    return named or _BEHIND.match(text, end) is not None


def _may_end_in_name(text: str) -> bool:
    """Return False where no name of a number stands at the end of a text, at little cost."""
    end = text[-_NEAR:].rstrip(_BETWEEN).lower()
    if not end[-_LONGEST_OTHER:].isascii() or _names(end):
        return True
    for verb in _VERBS:
        if end.endswith(verb):
            return _names(end.removesuffix(verb).rstrip(_BETWEEN))
    return False


def _names(end: str) -> bool:
    if _ends(end):
        return True
    numbers = _NUMBERS.get(end[-1:], ())
    return any(_ends(end.removesuffix(word).rstrip(_JOINTS)) for word in numbers if end.endswith(word))


def _ends(text: str) -> bool:
    return text.endswith(_WHOLE.get(text[-1:], ()))


def names_other(key: str) -> bool:
    """Return whether the key of a value says the same."""
    return _names_other(key[-_NEAR:])


@lru_cache(maxsize=4096)
def _names_other(name: str) -> bool:
    if not name.isascii() and (folded := fold(name)) is not None:
        name = folded.text
    return _KEY.search(name) is not None


def stays(key: str, value: str | int) -> bool:
    """Return whether the key of a value makes it a number of an order and the like, or a version of four parts."""
    text = value if isinstance(value, str) else str(value)
    if not text[:1].isdigit() or len(text) > _LONGEST:
        return False
    if text.isdigit():
        return len(text) >= _SHORTEST and names_other(key)
    return _FOUR.fullmatch(text) is not None and _VERSION_KEY.search(key) is not None
