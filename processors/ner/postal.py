"""Whole postal addresses out of their parts: street, house number, flat, town, state, postal code and country."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from otel_telemetry.processors.ner.spans import ADDRESS, LOCATION, Span
from otel_telemetry.processors.ner.words import NOBODY

#: Names of countries in English, as ISO 3166-1 has them or people write them.
COUNTRIES: Final = (
    "Afghanistan|Albania|Algeria|Andorra|Angola|Argentina|Armenia|Australia|Austria|Azerbaijan|Bahamas|Bahrain"
    "|Bangladesh|Barbados|Belarus|Belgium|Belize|Benin|Bhutan|Bolivia|Bosnia and Herzegovina|Botswana|Brazil"
    "|Brunei|Bulgaria|Burkina Faso|Burundi|Cambodia|Cameroon|Canada|Cape Verde|Chad|Chile|China|Colombia|Comoros"
    "|Congo|Costa Rica|Croatia|Cuba|Cyprus|Czech Republic|Czechia|Denmark|Djibouti|Dominica|Dominican Republic"
    "|Ecuador|Egypt|El Salvador|Eritrea|Estonia|Eswatini|Ethiopia|Fiji|Finland|France|Gabon|Gambia|Georgia"
    "|Germany|Ghana|Greece|Greenland|Grenada|Guatemala|Guinea|Guyana|Haiti|Honduras|Hong Kong|Hungary|Iceland"
    "|India|Indonesia|Iran|Iraq|Ireland|Israel|Italy|Ivory Coast|Jamaica|Japan|Jordan|Kazakhstan|Kenya|Kiribati"
    "|Kosovo|Kuwait|Kyrgyzstan|Laos|Latvia|Lebanon|Lesotho|Liberia|Libya|Liechtenstein|Lithuania|Luxembourg"
    "|Madagascar|Malawi|Malaysia|Maldives|Mali|Malta|Mauritania|Mauritius|Mexico|Moldova|Monaco|Mongolia"
    "|Montenegro|Morocco|Mozambique|Myanmar|Namibia|Nauru|Nepal|Netherlands|New Zealand|Nicaragua|Niger|Nigeria"
    "|North Korea|North Macedonia|Norway|Oman|Pakistan|Palau|Palestine|Panama|Papua New Guinea|Paraguay|Peru"
    "|Philippines|Poland|Portugal|Qatar|Romania|Russia|Rwanda|Samoa|San Marino|Saudi Arabia|Senegal|Serbia"
    "|Seychelles|Sierra Leone|Singapore|Slovakia|Slovenia|Somalia|South Africa|South Korea|South Sudan|Spain"
    "|Sri Lanka|Sudan|Suriname|Sweden|Switzerland|Syria|Taiwan|Tajikistan|Tanzania|Thailand|Togo|Tonga"
    "|Trinidad and Tobago|Tunisia|Turkey|Turkmenistan|Tuvalu|Uganda|Ukraine|United Arab Emirates|United Kingdom"
    "|United States(?: of America)?|Uruguay|Uzbekistan|Vanuatu|Venezuela|Vietnam|Yemen|Zambia|Zimbabwe|England"
    "|Scotland|Wales|USA|UK|UAE"
)
_UNIT: Final = (
    r"(?:apt|apartment|suite|ste|unit|flat|floor|fl|room|rm|no|nr|building|bldg|p\.?o|box|fpo|dpo|apo|psc|ap|ae|aa|streets?"
    r"|str|st|road|rd|avenue|ave|squares?|way|drive|dr|lane|ln|cit[eé]|city of|bl|bloc|bloco|sc|esc|edif|edificio|depto"
    r"|dpto|interior|int|piso|lote|lok|h\.no|s/n)"
)
_SIGNS: Final = r"[\s,.;:>|#()/-]"
#: What the names of places have between their words: `San Darío de la Montaña`.
_LINKS: Final = r"(?:de|del|della|di|da|do|dos|das|du|des|la|las|los|le|les|sur|sous|am|an|der|den|nad|pod|In|upon)"
#: What may stand between two parts of one address.
_BETWEEN: Final = re.compile(
    rf"(?>{_SIGNS}|(?i:{_UNIT})\b|(?<!\w){_LINKS}(?!\w)|(?<!\w)[A-Z]{{1,3}}(?!\w)|(?<!\w)\d{{1,8}}[A-Za-z]?(?!\w)"
    rf"|(?i:{COUNTRIES})(?!\w))*+"
)
#: A postal code that stands before its town, and the town: `H-5628 Pilis`, `2830-166 Sines`.
_CODE_LAST: Final = re.compile(r"[\n,] ?(?:[A-Z]{1,2}-)?\d{4,5}(?:-?\d{3}|\s\d{2})?$")
_TOWN: Final = re.compile(
    rf" [^\W\d_a-z][^\W\d_]+(?:-[^\W\d_]+)*(?: (?:{_LINKS} ){{0,2}}[^\W\d_a-z][^\W\d_]+){{0,2}}(?: / [A-Z]{{2}}\b)?"
)
_LONGEST_GAP: Final = 40
_LONGEST_CODE: Final = 14
_CORNER: Final = re.compile(r"(?i)\bcorner of (?:[^\n]{1,40}\b)?$")
_AND: Final = re.compile(r"[\s.,]{1,3}(?:and|&)\s")
#: Post boxes, and addresses of the armed forces of the United States:
#: https://pe.usps.com/text/pub28/28c2_010.htm.
_BOXES: Final = re.compile(
    r"(?i)\b(?:(?:psc|unit|cmr|rr|hc)\s\d{1,5},?\s{1,2}box\s\d{1,6}"
    r"|(?:p\.? ?o\.?|post(?:al)?(?: office)?) ?box:?\s\d{1,7}"
    r"|(?:boîte postale|bp|postfach|postbus|apartado(?: de correos)?|caixa postal|casella postale)\s\d{1,7})(?!\w)"
    r"(?:[\s,]{1,3}(?:apo|fpo|dpo)[\s,]{1,2}a[aep]\s\d{5}(?:-\d{4})?)?"
    r"|\b(?:us(?:s|ns|nv|cgc)\s[^\W\d_]{2,30}(?:[ -][^\W\d_]{2,30}){0,2}[\s,]{1,3})?"
    r"(?:apo|fpo|dpo)[\s,]{1,2}a[aep]\s\d{5}(?:-\d{4})?\b"
)
#: The line of a flat, also in quoted text.
_UNIT_LINE: Final = re.compile(
    r"(?im)^[^\w\n]{0,8}((?:apt|apartment|suite|ste|flat)\b\.?\s?#?\s?\d{1,5}[a-z]?)[^\w\n]{0,3}$"
)
_STREET_LINE: Final = re.compile(r"\d[^\n]{0,60}[^\W\d_]{3}|[^\W\d_]{3}[^\n]{0,60}\d")
_LONGEST_LINE: Final = 120
#: Streets whose kind is a word of its own before the name (`ul. Miła 53`, `Rua do Sol 4`) or behind it (`Fő utca 3`).
_KIND_BEFORE: Final = (
    r"(?:Via|(?i:ul\.|ulica|al\.|aleja|rua|rúa|travessa|praça|avenida|av\.|rue|chemin|allée|quai|impasse|viale|corso|piazza"
    r"|piazzetta|vicolo|strada|calle|c/|plaza|paseo|camino|carrer|náměstí|nám\.|trg|jalan|jl\."
    r"|λεωφόρος|λεωφ\.|λ\.|οδός|πλατεία"
    r"|ул\.|улица|проспект|пр\.|площадь|переулок|вул\.|вулиця))"
)
_KIND_BEHIND: Final = (
    r"(?i:utca|út|útja|tér|tere|körút|krt\.|rkp\.|rakpart|sétány|sokak|sokağı|sok\.|caddesi|cad\.|bulvarı|tänav"  # noqa: RUF001
    r"|maantee|iela|gatvė|prospektas)"
)
_NAME: Final = r"[^\W\d_a-z][^\W\d_]*\.?(?:[-'’][^\W\d_]+)*"  # noqa: RUF001
_SMALL: Final = r"(?:d[aeiou]s?|del|dell[aeo']|delle|degli|des|du|la|le|les|las|los|al|y|e)"
_NUMBER: Final = r"\d{1,4}(?:[A-Za-z]|/\d{1,4})?\.?(?![\w%]|[.,:]\d)"
_STREETS: Final = re.compile(
    rf"(?<![\w/.-])(?:{_KIND_BEFORE}\s?(?:{_SMALL}\s){{0,2}}(?P<led>{_NAME})(?:\s(?:{_SMALL}\s){{0,2}}{_NAME}){{0,4}},?\s{_NUMBER}"
    rf"|(?P<name>{_NAME})(?:\s[^\W\d_]{{2,30}}){{0,2}}\s{_KIND_BEHIND}\s{_NUMBER})"
)
_BEFORE: Final = re.compile(
    rf"(?<![\w.])(?:(?i:the )?(?i:corner of )"
    rf"|(?:(?i:{_UNIT})\.? )?\d{{1,6}}[A-Za-z]?(?:[-/]\d{{1,4}})?,?\s{{1,2}}(?:\d{{1,4}}\s)?|(?i:{_UNIT})\.? )$"
)
_BEHIND: Final = re.compile(
    rf"(?:{_SIGNS}{{1,4}}(?>(?i:{_UNIT})\b\.?\s?\d{{0,6}}[A-Za-z]?(?!\w)|[A-Z]{{1,2}}\d[A-Z\d]? ?\d[A-Z]{{2}}(?!\w)"
    rf"|[A-Z]{{1,3}}(?!\w)|(?:[A-Z]{{1,2}}-)?\d{{1,8}}(?:[ -]\d{{2,4}})?(?!\w)|(?i:{COUNTRIES})(?!\w))){{1,8}}"
)


def written(text: str) -> Iterator[Span]:
    """Yield the addresses in a text that their form alone gives away.

    Those are post boxes, addresses of armed forces, the line of a flat below that of a street, and streets with a
    number and a word for a street in languages that write it apart.
    """
    for found in _BOXES.finditer(text):
        yield *found.span(), ADDRESS
    for found in _UNIT_LINE.finditer(text):
        if _STREET_LINE.search(_line_before(text, found.start())):
            yield *found.span(1), ADDRESS
    for found in _STREETS.finditer(text):
        if (found["led"] or found["name"]).lower() not in NOBODY:
            yield *found.span(), ADDRESS


def _line_before(text: str, start: int) -> str:
    """Return the line that ends where another one starts, or the end of it if it is long."""
    least = max(0, start - _LONGEST_LINE)
    return text[max(least, text.rfind("\n", least, max(0, start - 1)) + 1) : start]


def joined(text: str, spans: Sequence[Span]) -> Iterator[Span]:
    """Yield spans in which the parts of an address are one, with the numbers and the country beside them.

    A place by itself stays a place; numbers alone are nothing.
    """
    last: Span | None = None
    for span in spans:
        if last is not None and _are_one(text, last, span):
            last = (last[0], span[1], ADDRESS if ADDRESS in (last[2], span[2]) else LOCATION)
            continue
        if last is not None:
            yield from _whole(text, last)
        last = span
    if last is not None:
        yield from _whole(text, last)


def _are_one(text: str, first: Span, second: Span) -> bool:
    if second[0] - first[1] > _LONGEST_GAP:
        return False
    if ADDRESS in (first[2], second[2]) and _CORNER.search(text, max(0, first[0] - 60), first[0]):
        return bool(_AND.fullmatch(text, first[1], second[0]))
    if {first[2], second[2]} - {ADDRESS, LOCATION}:
        return False
    return bool(_BETWEEN.fullmatch(text, first[1], second[0]))


def _whole(text: str, span: Span) -> Iterator[Span]:
    start, end, kind = span
    if kind == ADDRESS:
        before = _BEFORE.search(text, max(0, start - 24), start)
        behind = _BEHIND.match(text, end)
        start, end = before.start() if before else start, behind.end() if behind else end
        town = _TOWN.match(text, end) if _CODE_LAST.search(text, max(start, end - _LONGEST_CODE), end) else None
        end = town.end() if town else end
    if kind not in (ADDRESS, LOCATION) or any(map(str.isalpha, text[start:end])):
        yield start, end, kind
