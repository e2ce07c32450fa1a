"""Decides whether a name and its value are in data, in source code, or in a sentence.

In data a strong name decides alone. In the parentheses of a call, in an assignment of source code and in a sentence the
same words usually mean something else; syntax and grammar distinguish them.
"""

import re
from typing import Final

_LOOK_BACK: Final = 600
_CALLED: Final = re.compile(r"[\w\])>!?]")
#: What stands before a name that is declared or set in source code.
_DECLARED: Final = re.compile(
    r"\b(?:const|let|var|val|final|static|private|public|protected|String|string|str|char|auto|my|our|local|readonly|def"
    r"|&str|std::string)[\s*&]{1,4}$"
)
#: The words with which such a declaration ends.
_DECLARING: Final = tuple(
    "const let var val final static private public protected string String str char auto my our local readonly"
    " def".split()
)
_MEMBER: Final = re.compile(r"(?:self|this|cls)\b|\$(?!env:)")
_SET_BY_CALL: Final = re.compile(
    r"(?:[sS]et(?:[A-Z]\w{0,20}|_\w{1,20})?|put(?:String)?|define|get[eE]nv|environ\.get|fetch|env|getProperty|getOrDefault|setdefault|option)"
    r"\(\\{0,15}[\"']$"
)
#: An object as programs print it: its class and members before a place, the next one behind, and printed values.
_PRINTED: Final = re.compile(
    r"(?:^|[\s\[:=>,\"'])(?P<name>[A-Z][A-Za-z0-9$.]{1,60})\((?:\w{1,40}=[^()=\r\n]{0,80}, ){0,30}$"
)
_NEXT_MEMBER: Final = re.compile(r"(?:, \w{1,40}=[^()\r\n]{0,400})?\)(?:$|[\s,;.\]}\"'])")
_PRINTED_VALUE: Final = re.compile(r"=(?:null|true|false|\d[\d.:-]*|[^\s,()='\"]{1,60}@[^\s,()'\"]{1,60})(?=[,)]|$)")
_ENDS_STATEMENT: Final = re.compile(r"\\{0,15}[\"'`]{1,3}[)\]]{0,4};")
#: What may stand behind a value that is complete: the end, a comment, a bracket, or the next name of a record.
_COMPLETE: Final = re.compile(
    r"[ \t]*(?:$|[\r\n,;|)}\]&<\\\"'`]|\.(?:\s|$)|(?:#|//|--|\||-|/)[ \t]|[\w.@/-]{1,60}\"?(?:=|:[ \t]))"
)
#: The same where a record has no space behind its colons: `{User:bob Password:x Host:y}`.
_COMPLETE_UNSPACED: Final = re.compile(_COMPLETE.pattern + r"|[ \t][\w.@/-]{1,60}:[^\s/]")
_REST: Final = re.compile(r"[^\r\n\"\\]{0,240}")
_WORDS: Final = re.compile(r"[a-z]{2,16}(?: [a-z]{2,16}){2,23}")
#: Words that hold a sentence together, and stand in no passphrase that is drawn from a list of nouns.
_GRAMMAR: Final = frozenset(
    "a an the is are was were be been being has have had must should can cannot could may might will would shall do"
    " does did not no of for from to in on at by with and or but if as that this these those it its your you we our"
    " they their he she his her which who when where how what than then so too very only please into over under"
    " between required invalid incorrect wrong expired missing failed reset change changed used using use one"
    " password passphrase string user name token secret key field account login value text optional default".split()
)
_INDENT: Final = 40
_LINE_START: Final = re.compile(r"(?:(?:^|[\r\n])[ \t]*(?:- )?|[\"'])$")
_BESIDE_OPTION: Final = frozenset(
    "variable variables flag flags"
    " option options argument arguments parameter parameters switch switches setting settings value".split()
)
_RECORD: Final = re.compile(r"\{ ?(?:[A-Z]\w{0,40} = [^{}\r\n,]{0,80}, ?){1,20}$")
_RECORD_ENDS: Final = re.compile(r" ?[,}]")
#: One of several pairs of a row, before and behind: `Server = x; Password = y; Port = 1`, `a => 1, b => 2`.
_PAIR_BEFORE: Final = re.compile(
    r";$|(?:^|[\s;,{(\"'])[A-Za-z_][\w.-]{0,40}(?: [\w-]{1,20}){0,2} ?=>? ?"
    r"(?:[^\s;,=(){}\"']{1,80}|'[^'\r\n]{0,80}'|\"[^\"\r\n]{0,80}\") ?[;,]? $"
)
_PAIR_BEHIND: Final = re.compile(
    r" ?[;,]? [A-Za-z_][\w.-]{0,40}(?: [\w-]{1,20}){0,2} ?=>? ?[^\s=]|;[A-Za-z][\w ]{0,40}="
)
_ONE_PAIR: Final = 160
_ENDS_PAIR: Final = re.compile(r" ?(?:[;,)}]|$|[\r\n]| [A-Za-z_][\w.-]{0,40} =)")
_ENDS_SETTING: Final = re.compile(r"[ \t]*(?:$|[\r\n]|[;#]|\\{0,15}[\"'](?:$|[,}\]]))")
#: Lines of source code.
_CODE: Final = re.compile(
    r"(?m)^[ \t]*(?:(?:def|class|import|from|return|if|elif|else|for|while|with|try|except|func|fn|function|const|let"
    r"|var|val|public|private|protected|static|package|use|using|assert|raise|throw|print|puts|echo|end|do|async"
    r"|await|yield|switch|case|begin|then|fi|done|local|my|our|sub|namespace|interface|struct|enum|impl|match|select|insert"
    r"|update|where)\b|#include|#!|>>> |@\w|//|/\*)|[\w\])]\(|[;{][ \t]*$|\):?[ \t]*$|[\w)] ?[+*/-] ?[\w(]|[!=]="
    r"|&&|\|\|"
    r"|\b(?:not|and|or|in|is) \w|\[\w+\]\."
)
_AROUND: Final = 400
_DIRECTIVE_ENDS: Final = re.compile(r"[ \t]*;?[ \t]*(?:$|[\r\n])")
_DIRECTIVE_ABOVE: Final = re.compile(r"(?:^|\n)[ \t]*[a-z][\w.-]{1,40} [^\s]{1,120};?[ \t]*\r?\n$")
_DIRECTIVE_BELOW: Final = re.compile(r"[ \t]*;?[ \t]*\r?\n[ \t]*[a-z][\w.-]{1,40} [^\s]{1,120};?[ \t]*(?:\r?\n|$)")
_HEADER_OPTION: Final = re.compile(r"(?:^|[\s\"'\[,])(?:-H|--header|--headers|--add-header)(?:[ =]|\",? ?)[\"']?$")
_OPTION: Final = 16
_HEAD_ENDS: Final = re.compile(r"\][ \t]*\r?\n")
_SECTION: Final = re.compile(r"(?:^|[\n\"'])[ \t]*\[[\w .:\"-]{1,64}\][ \t]*\r?\n")


def in_call(text: str, at: int) -> bool:
    """Return whether a place is inside the parentheses of a call, or of a function's parameters."""
    low = max(0, at - _LOOK_BACK)
    opened = text.rfind("(", low, at)
    closed = 0
    while opened >= 0:
        closed += text.count(")", opened, at)
        if not closed:
            return opened > low and _CALLED.match(text, opened - 1) is not None
        closed -= 1
        at, opened = opened, text.rfind("(", low, opened)
    return False


def in_printed_object(text: str, start: int, end: int) -> bool:
    """Return whether a member stands among those of an object as programs print it: `User(id=4, password=x, on=true)`.

    Source code has variables in these places; what is printed has numbers, `null` and whole values beside it.
    """
    opened = _PRINTED.search(text, max(0, start - _LOOK_BACK), start)
    if opened is None or _NEXT_MEMBER.match(text, end) is None:
        return False
    closed = text.find(")", end, end + _LOOK_BACK)
    members = text[opened.end("name") : start] + text[end : closed if closed >= 0 else end + _LOOK_BACK]
    return _PRINTED_VALUE.search(members) is not None


def in_string_of_call(text: str, at: int) -> bool:
    """Return whether a place in a call's parentheses is inside of a text in quotes: `connect("user=x password=y")`."""
    opened = text.rfind("(", max(0, at - _LOOK_BACK), at)
    inside = text[opened + 1 : at]
    return inside.count('"') % 2 == 1 or (inside.count("'") % 2 == 1 and '"' not in inside)


def is_source(text: str, start: int, end: int) -> bool:
    """Return whether a name that starts here, and its quoted value that ends here, are set in source code."""
    if _MEMBER.match(text, start) or _ENDS_STATEMENT.match(text, end):
        return True
    before = text[max(0, start - _INDENT) : start]
    head = before.rstrip(" \t*&")
    if not head[-1:].isspace() and not head.endswith(_DECLARING):
        return False
    return _DECLARED.search(before) is not None


def is_set_by_call(text: str, start: int) -> bool:
    """Return whether a name is the first argument of a call that sets it, or that gives a value where there is none."""
    return _SET_BY_CALL.search(text, max(0, start - _INDENT), start) is not None


def is_complete(text: str, end: int, *, spaced: bool = True) -> bool:
    """Return whether a value ends here, rather than a sentence going on; `spaced` as the separator before it was."""
    return (_COMPLETE if spaced else _COMPLETE_UNSPACED).match(text, end) is not None


def in_section(text: str, start: int) -> bool:
    """Return whether a line stands under the head of a section, as in an INI file."""
    before = text[max(0, start - _LOOK_BACK) : start]
    return _HEAD_ENDS.search(before) is not None and _SECTION.search(before) is not None


def is_directive(text: str, start: int, end: int) -> bool:
    """Return whether a word and its value are a line of a file of such lines: `user jane`, `password x`."""
    if not starts_line(text, start) or _DIRECTIVE_ENDS.match(text, end) is None:
        return False
    above = text[: text.rfind("\n", 0, start) + 1][-_LOOK_BACK:]
    return _DIRECTIVE_ABOVE.search(above) is not None or _DIRECTIVE_BELOW.match(text, end) is not None


def is_prose_word(value: str) -> bool:
    """Return whether a word behind the name of an option goes on with a sentence, or is a name for a value: `KEY`."""
    word = value.rstrip(".,:;)")
    return word.lower() in _GRAMMAR or word in _BESIDE_OPTION or (word.isupper() and word.isalpha())


def starts_line(text: str, start: int) -> bool:
    """Return whether nothing but space, a dash or a quote stands before a name on its line."""
    return _LINE_START.search(text, max(0, start - _INDENT), start) is not None


def in_record(text: str, start: int, end: int) -> bool:
    """Return whether a place is one of several in braces: `{ User = jane, Password = x }`."""
    if text[end : end + 1] not in (" ", ",", "}"):
        return False
    return (
        _RECORD.search(text, max(0, start - _LOOK_BACK), start) is not None
        and _RECORD_ENDS.match(text, end) is not None
    )


def in_pairs(text: str, start: int, end: int) -> bool:
    """Return whether a name and its value are one of several pairs in a row, as in a connection string."""
    if _ENDS_PAIR.match(text, end) is None:
        return False
    if _PAIR_BEHIND.match(text, end) is not None:
        return True
    low = max(0, start - _ONE_PAIR)
    before = text[max(low, text.rfind("\n", low, start) + 1) : start]
    return "=" in before and _PAIR_BEFORE.search(before) is not None


def is_setting(text: str, start: int, end: int) -> bool:
    """Return whether a name and its value are a line of a file of settings, not of source code."""
    if not starts_line(text, start) or _ENDS_SETTING.match(text, end) is None:
        return False
    line = text.rfind("\n", 0, start) + 1
    around = text[max(0, line - _AROUND) : max(0, line - 1)]
    behind = text[end : end + _AROUND].partition("\n")[2]
    return (
        _CODE.search(around.partition("\n")[2] if line > _AROUND else around) is None and _CODE.search(behind) is None
    )


def is_header_option(text: str, start: int) -> bool:
    """Return whether a name stands behind an option of a command that takes a header: `-H`, `--header=`."""
    low = max(0, start - _OPTION)
    before = text[low:start]
    return ("-H" in before or "header" in before) and _HEADER_OPTION.search(text, low, start) is not None


def passphrase_end(text: str, start: int, least: int) -> int:
    """Return where a line of words ends that make no sentence; 0 where they make one, or are fewer than `least`."""
    rest = _REST.match(text, start)
    line = rest[0].rstrip() if rest else ""
    words = line.split(" ")
    if not _WORDS.fullmatch(line) or len(words) < least or not _GRAMMAR.isdisjoint(words):
        return 0
    return start + len(line)
