"""Sentences with people and addresses in them, made up: none was used to choose the model or its thresholds.

Given names, surnames, streets and towns of fourteen countries, put together at random, in the words of people who write
to a chat: carefully, carelessly, in capitals, in small letters, in four languages.
"""

from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

PERSON: Final = "PERSON"
ADDRESS: Final = "ADDRESS"
LOCATION: Final = "LOCATION"

_GIVEN_TEXT: Final = (
    "Oliver Amelia Harry Isla Noah Ava Liam Emma Jack Sophie Lukas Hannah Felix Clara Jonas Greta Pierre Camille "
    "Antoine Chloé Luc Manon Javier Lucía Pablo Carmen Diego Sofía Giulia Matteo Francesca Lorenzo Chiara João "
    "Beatriz Tiago Inês Lars Astrid Sven Ingrid Mikkel Freja Aino Eero Katarzyna Piotr Zofia Tomasz Anjali Rahul "
    "Priya Arjun Deepa Wei Mei Hiroshi Yuki Kenji Aiko Fatima Omar Layla Yusuf Amina Kwame Ama Chidi Ngozi Thabo "
    "Zanele Minh Linh "
)
_GIVEN: Final = _GIVEN_TEXT.split()
_SURNAMES_TEXT: Final = (
    "Whitfield Ashworth Pemberton Holloway Kowalski Nowak Wiśniewska Zielińska Bergström Lindqvist Halvorsen "
    "Nygaard Kjeldsen Virtanen Korhonen Hofmann Brandt Schreiber Lindner Vogel Dubois Lefèvre Moreau Girard "
    "Fontaine Herrera Navarro Castillo Delgado Ferrari Bianchi Romano Ricci Figueiredo Carvalho Teixeira Sharma "
    "Iyer Banerjee Chatterjee Reddy Zhang Huang Nakamura Tanaka Watanabe Rahman Siddiqui Haddad Mansour Okafor "
    "Adeyemi Mensah Boateng Dlamini Nkosi Nguyen Tran McAllister O'Sullivan Fitzgerald MacDonald Llewellyn "
    "Gallagher Thornton Beaumont Castellanos Papadopoulos Yildiz Demir Novak Horvat "
)
_SURNAMES: Final = _SURNAMES_TEXT.split()
_STREETS: Final = (
    "Maple Grove Avenue",
    "Harbour Street",
    "Kingfisher Lane",
    "Old Mill Road",
    "Sycamore Drive",
    "Riverside Walk",
    "Church Hill",
    "Queen Mary Road",
    "Jefferson Boulevard",
    "Whispering Pines Court",
    "Beacon Hill Road",
    "Elm Street",
    "Lakeshore Drive",
    "Abbey Lane",
    "Station Road",
)
_TOWNS: Final = (
    "Galway",
    "Leeds",
    "Portland",
    "Columbus",
    "Brighton",
    "Aberdeen",
    "Nottingham",
    "Savannah",
    "Tucson",
    "Madison",
    "Cork",
    "Bristol",
    "Halifax",
    "Wellington",
    "Adelaide",
    "Hamburg",
    "Lyon",
    "Valencia",
    "Bologna",
    "Porto",
    "Gothenburg",
    "Tampere",
    "Kraków",
    "Pune",
    "Osaka",
    "Nairobi",
    "Accra",
    "Durban",
    "Hanoi",
    "Izmir",
)
_STATES: Final = ("OH", "GA", "AZ", "WI", "OR", "TX", "CA", "NY", "MA", "FL")
_TEMPLATES: Final = (
    "My name is {p} and I live in {t}.",
    "Hi, this is {p}, I'd like to change my booking for tomorrow.",
    "my name is {lp} and i can't log in",
    "Please send the contract to {p}, {a}.",
    "The parcel for {p} was left at {a} yesterday.",
    "Can you write a birthday card for my colleague {p}? She loves hiking.",
    "Dear {p},\nthank you for your patience. Your refund is on its way.\nRegards,\n{p}",
    "I met {p} and {p} in {t} last summer; what should I cook for them?",
    "deliver to {p}\n{a}",
    "My doctor, Dr. {s}, says I should see {p} at the clinic.",
    "Customer {p} called about the invoice and asked for a callback.",
    "We moved from {t} to {a} in spring, please update our records.",
    "I am {p}, born in {t}, and I work as a nurse.",
    "User: where is my order? It should go to {a}\nAgent: I'll check that for you, {g}.",
    "Is there a good vegetarian restaurant near {a}?",
    "Summarise: {p} told the board that {p} will leave in May.",
    "{p} wrote: the keys are with my neighbour, {p}.",
    "Ich heiße {p} und wohne in {t}.",
    "Je m'appelle {p} et j'habite à {t}.",
    "Me llamo {p} y vivo en {t}.",
    "ATTENTION: {up} HAS NOT PAID YET",
    "Could you check whether {p}'s appointment in {t} is confirmed?",
)


class Sentence(NamedTuple):
    """A text and what is in it: `(start, end, type)` in characters, end exclusive."""

    text: str
    spans: list[tuple[int, int, str]]


def sentences(count: int, seed: int) -> Iterator[Sentence]:
    """Yield that many sentences, the same for the same seed."""
    random = Random(seed)  # noqa: S311  # made-up people
    for number in range(count):
        yield _sentence(random, _TEMPLATES[number % len(_TEMPLATES)])


def _sentence(random: Random, template: str) -> Sentence:
    text, spans = "", []
    for number, part in enumerate(template.replace("}", "{").split("{")):
        if number % 2 == 0:
            text += part
            continue
        value, kind = _value(random, part)
        spans.append((len(text), len(text) + len(value), kind))
        text += value
    return Sentence(text, spans)


def _value(random: Random, part: str) -> tuple[str, str]:
    if part == "a":
        number, street, town = random.randint(1, 9999), random.choice(_STREETS), random.choice(_TOWNS)
        flat = random.choice(("", "", f", Apt. {random.randint(1, 99)}"))
        area = random.choice((f", {random.choice(_STATES)} {random.randint(10000, 99999)}", ""))
        return f"{number} {street}{flat}, {town}{area}", ADDRESS
    if part == "t":
        return random.choice(_TOWNS), LOCATION
    given, surname = random.choice(_GIVEN), random.choice(_SURNAMES)
    names = {"p": f"{given} {surname}", "lp": f"{given} {surname}".lower(), "up": f"{given} {surname}".upper()}
    return names.get(part, surname if part == "s" else given), PERSON
