"""Reads a template's style sheets and resolves the cascade (CSS Cascade 4 §6), so that styles can be moved into elements.

Only plain rules are used. At-rules such as `@media`, and selectors for a state (`:hover`) or a part (`::before`) of an element
stay in `<style>`: the mail reader decides them. A sheet that mail readers might read differently is not used at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_STRING = r""""(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+'"""
_COMMENT = re.compile(rf"({_STRING})|/\*.*?(?:\*/|\Z)|<!--|-->", re.DOTALL)
_TOKEN = re.compile(rf"""{_STRING}|\\.|url\(\s*+[^"'\s)][^)]*+\)|[{{}}();]""", re.DOTALL | re.IGNORECASE)
_COMMAS = re.compile(rf"{_STRING}|\\.|[()\[\],]", re.DOTALL)
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_CONDITION = re.compile(r"\[[^\]]*+\]")
_ATTRIBUTE_NAME = re.compile(r"\[\s*+([\w-]++)")
_NEIGHBOURS = re.compile(r"[+~]|:(?:nth-|first-(?!line|letter)|last-|only-|empty|has\(|is\(|where\()", re.IGNORECASE)
_STATE = re.compile(r"::|:(?!not\()[a-z-]+", re.IGNORECASE)
_TYPE = re.compile(r"(?:^|[\s>(])([a-zA-Z][\w-]*+)")
_PROPERTY = re.compile(r"-{0,2}[a-z][\w-]*+", re.IGNORECASE)
_IMPORTANT = re.compile(r"!\s*+important\s*+\Z", re.IGNORECASE)
MAX_SELECTOR = 2_000


class Unreadable(Exception):
    """The sheet must stay as it is, with the reason. Caught in templates.inline_css."""

    def __init__(self, why: str, position: int | None = None) -> None:
        super().__init__(why)
        self.position = position
        """Offset in the template's text."""


class Declaration(NamedTuple):
    """`name: value`."""

    name: str
    text: str
    important: bool


class Rule(NamedTuple):
    """A selector and its declarations."""

    selector: str
    specificity: tuple[int, int, int]
    declarations: tuple[Declaration, ...]
    personal: bool
    """Whether its values contain template tags."""


class Sheet(NamedTuple):
    """All style sheets of a template as one."""

    rules: list[Rule]
    looks_around: bool
    """A selector counts or follows siblings: the elements it matches may depend on conditions and loops."""
    attributes: frozenset[str]
    """Attributes that selectors use, in lower case."""
    overruled: tuple[str, ...]
    """Properties that both `@media` (without `!important`) and plain rules set."""


def read_sheet(css: str) -> Sheet:
    """Read the rules in order. Raises `Unreadable`."""
    rules: list[Rule] = []
    conditional: set[str] = set()
    for prelude, body in _blocks(_COMMENT.sub(lambda found: found[1] or " ", css)):
        if not prelude.startswith("@"):
            rules += _rules(prelude, body)
        elif prelude.lower().startswith("@media"):
            conditional |= {one.name for _, inner in _blocks(body) for one in _declarations(inner) if not one.important}
    selectors = [_analysable(rule.selector) for rule in rules]
    asked = frozenset(name.lower() for rule in rules for name in _ATTRIBUTE_NAME.findall(rule.selector))
    around = any(_NEIGHBOURS.search(_CONDITION.sub("", selector)) for selector in selectors)
    plain = [rule for rule in rules if not _has_state(rule.selector)]
    overruled = conditional & {declaration.name for rule in plain for declaration in rule.declarations}
    return Sheet(plain, around, asked | {"class", "id"}, tuple(sorted(overruled)))


def cascade(rules: Iterable[tuple[int, Rule]], own: str) -> str:
    """The text of a `style` attribute from the rules that match an element, given with their position in the sheet. Properties
    that the element's `own` style sets are left out."""
    winners: dict[str, list[Declaration]] = {}
    for _, rule in sorted(rules, key=lambda found: (found[1].specificity, found[0])):
        named: dict[str, list[Declaration]] = {}
        for declaration in rule.declarations:
            named.setdefault(declaration.name, []).append(declaration)  # one rule may declare a fallback first
        for name, declarations in named.items():
            before = winners.get(name, [])
            if any(one.important for one in before) and not any(one.important for one in declarations):
                continue
            winners.pop(name, None)
            winners[name] = declarations
    replaced = frozenset() if "\x00" in own else {declaration.name for declaration in _declarations(own)}
    return "; ".join(one.text for found in winners.values() for one in found if one.important or one.name not in replaced)


def _blocks(css: str) -> Iterator[tuple[str, str]]:
    """The text before each outermost pair of braces, and the text inside."""
    depth, start, begin, prelude, nested = 0, 0, 0, "", False
    for token in _TOKEN.finditer(css):
        if token[0] == "{":
            if not depth:
                prelude, begin, nested = css[start : token.start()].strip(), token.end(), False
            depth += 1
            nested = nested or depth > 1
        elif token[0] == "}":
            depth -= 1
            if depth < 0:
                raise Unreadable("a } closes nothing")
            if not depth:
                if nested and not prelude.startswith("@"):
                    raise Unreadable(f"rules stand inside the rule {prelude[:40]!r}")
                yield prelude, css[begin : token.start()]
                start = token.end()
        elif token[0] == ";" and not depth:  # the end of `@import …;`
            start = token.end()
    if depth:
        raise Unreadable("a { is never closed")


def _rules(prelude: str, body: str) -> Iterator[Rule]:
    if "\x00" in prelude:
        raise Unreadable("a template tag stands in a selector")
    declarations = tuple(_declarations(body))
    for selector in _split(prelude):
        if len(selector) > MAX_SELECTOR:
            raise Unreadable("a selector is too long")
        selector = selector.replace(":link", "[href]")
        yield Rule(selector, _specificity(selector), declarations, "\x00" in body)


def _declarations(body: str) -> Iterator[Declaration]:
    start, depth = 0, 0
    ends = []
    for token in _TOKEN.finditer(body):
        depth = max(0, depth + (token[0] == "(") - (token[0] == ")"))
        if token[0] == ";" and not depth:
            ends.append(token.start())
    for end in [*ends, len(body)]:
        name, colon, value = body[start:end].partition(":")
        start = end + 1
        name, value = name.strip(), " ".join(value.split())
        if colon and value and _PROPERTY.fullmatch(name):
            name = name if name.startswith("--") else name.lower()
            yield Declaration(name, f"{name}: {value}", _IMPORTANT.search(value) is not None)


def _split(prelude: str) -> Iterator[str]:
    """The selectors of a list."""
    start, depth = 0, 0
    for token in _COMMAS.finditer(prelude):
        depth += (token[0] in "([") - (token[0] in ")]")
        if token[0] == "," and not depth:
            yield prelude[start : token.start()].strip()
            start = token.end()
    yield prelude[start:].strip()


def _analysable(selector: str) -> str:
    return re.sub(_STRING, "s", _ESCAPE.sub("e", selector))


def _has_state(selector: str) -> bool:
    """Whether it depends on more than elements, attributes and their position among siblings."""
    plain = _CONDITION.sub("", _analysable(selector))
    return any(not _NEIGHBOURS.match(plain, found.start()) for found in _STATE.finditer(plain))


def _specificity(selector: str) -> tuple[int, int, int]:
    """Selectors 4 §17."""
    plain = _analysable(selector)
    conditions = len(_CONDITION.findall(plain))
    plain = _CONDITION.sub("", plain)
    states = len([found for found in _STATE.finditer(plain) if not found[0].startswith("::")])
    return plain.count("#"), plain.count(".") + conditions + states, len(_TYPE.findall(plain.replace("+", " ").replace("~", " ")))
