"""Refuses what a template could eat the machine with, before the engine sees it.

MiniJinja's fuel bounds steps and output, but a nested expression overflows its stack, a list that holds another twice takes for
ever to print, and `*` copies lists unseen. So the constructs that feed a result back into itself are left out of
the language (namespaces, recursive loops, macros calling macros), those that multiply do it by plain numbers, and each expression
gets a *weight*: how many times the size of a row its result can be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from postroom.delivery.expressions import MAX_WEIGHT, Names, Token, refuse, tokens_of, weigh
from postroom.delivery.lexer import Skeleton, Tag, TagKind
from postroom.errors import Invalid

MAX_TAGS = 5_000
MAX_ELIF = 100
MAX_CAPTURED = 16_384
"""Characters of literal text inside one macro, `set` or `filter` block: a loop may copy them."""

CAPTURES = frozenset({"set", "filter", "macro"})
"""Blocks whose content becomes a value, where they have an end of their own."""

_BLOCKS = frozenset({"if", "elif", "else", "for", "set", "with", "filter", "macro", "autoescape", "do"})
_ENDS = frozenset({"endif", "endfor", "endset", "endwith", "endfilter", "endmacro", "endautoescape"})


@dataclass(slots=True)
class _Open:
    """A block not yet ended: for one that captures, what its content adds up to."""

    word: str
    name: str = ""
    weight: int = 0
    factor: int = 1
    text: int = 0
    loops: bool = False


@dataclass(slots=True)
class _Scan:
    names: Names
    blocks: list[_Open] = field(default_factory=list)
    loops: bool = False
    elifs: int = 0


@dataclass(frozen=True, slots=True)
class Growth:
    """What a template can make of a row."""

    loops: bool
    """Whether an output may run more than once."""


def measure(skeleton: Skeleton, *, part: str) -> Growth:
    """Check every tag; `Invalid` (part, line, what to do) for what cannot be bounded."""
    if len(skeleton.tags) > MAX_TAGS:
        raise Invalid(f"{part}: {len(skeleton.tags)} tags; a template may have {MAX_TAGS}.")
    scan = _Scan(Names(part))
    for piece in skeleton.pieces():
        if isinstance(piece, str):
            _captured(scan, text=len(piece))
        elif piece.kind is TagKind.OUTPUT:
            _output(scan, piece)
        elif piece.kind is TagKind.BLOCK:
            _block(scan, piece)
    return Growth(scan.loops)


def is_capture(tag: Tag) -> bool:
    """Whether a block's content becomes a value: it is then rendered as text, not as prepared fragments."""
    return tag.word in ("filter", "macro") or (tag.word == "set" and not _has_assignment(tokens_of(tag.body)))


def _captured(scan: _Scan, *, text: int = 0, weight: int = 0) -> None:
    for block in scan.blocks:
        if block.word in CAPTURES:
            block.text += text
            block.weight += weight


def _output(scan: _Scan, tag: Tag) -> None:
    weight = weigh(scan.names, tag, tokens_of(tag.body), may_call_macro=not any(b.word in CAPTURES for b in scan.blocks))
    _captured(scan, weight=weight)


def _block(scan: _Scan, tag: Tag) -> None:
    word = tag.word
    tokens = tokens_of(tag.body)[1:]
    if word in _ENDS:
        _end(scan, tag)
    elif word not in _BLOCKS:  # include, import, extends, block, call …
        raise refuse(
            scan.names, tag, f"{{% {word} %}} is not available: a template stands alone (see the reference of templates)."
        )
    else:
        _BEGIN.get(word, _condition)(scan, tag, tokens)


def _condition(scan: _Scan, tag: Tag, tokens: list[Token]) -> None:
    """`if`, `elif`, `else`, `autoescape`, `do`."""
    if tag.word == "elif":
        scan.elifs += 1
        if scan.elifs > MAX_ELIF:
            raise refuse(scan.names, tag, f"more than {MAX_ELIF} {{% elif %}} in a template.")
    weigh(scan.names, tag, tokens)
    if tag.word in ("if", "autoescape"):
        scan.blocks.append(_Open(tag.word))


def _for(scan: _Scan, tag: Tag, tokens: list[Token]) -> None:
    names = [token.text for token in tokens]
    if names[-1:] == ["recursive"]:
        raise refuse(scan.names, tag, "a recursive loop cannot be bounded; write the levels out.")
    if any(block.word == "set" or block.factor > 1 for block in scan.blocks):
        raise refuse(scan.names, tag, "a loop inside {% set %} or such a {% filter %} cannot be bounded; put the loop around it.")
    middle = names.index("in") if "in" in names else len(names)
    weight = weigh(scan.names, tag, tokens[middle + 1 :], may_range=True)
    scan.names.weights.update({name: max(weight, scan.names.weights.get(name, 1)) for name in names[:middle]})
    scan.loops = True
    for block in scan.blocks:
        block.loops = True
    scan.blocks.append(_Open("for"))


def _set(scan: _Scan, tag: Tag, tokens: list[Token]) -> None:
    if any(token.text == "." for token in tokens[:2]):
        raise refuse(scan.names, tag, "namespaces cannot be bounded; compute the value in the recipients' file.")
    if _has_assignment(tokens):
        _assign(scan, tag, tokens)
    else:
        scan.blocks.append(_Open("set", tokens[0].text if tokens else ""))


def _with(scan: _Scan, tag: Tag, tokens: list[Token]) -> None:
    _assign(scan, tag, tokens)
    scan.blocks.append(_Open("with"))


def _assign(scan: _Scan, tag: Tag, tokens: list[Token]) -> None:
    """Each name assigned gets the weight of the whole tag: coarse, and never too low."""
    weight = weigh(scan.names, tag, tokens)
    for token, following in zip(tokens, [*tokens[1:], Token("sign", "")], strict=True):
        if token.kind == "name" and following.text in ("=", ","):
            scan.names.weights[token.text] = max(weight, scan.names.weights.get(token.text, 1))


def _filter(scan: _Scan, tag: Tag, tokens: list[Token]) -> None:
    weight = weigh(scan.names, tag, [Token("string", '""'), Token("sign", "|"), *tokens])
    scan.blocks.append(_Open("filter", factor=weight))


def _macro(scan: _Scan, tag: Tag, tokens: list[Token]) -> None:
    if scan.blocks:
        raise refuse(scan.names, tag, "define a macro outside of any other block.")
    for token in tokens[1:]:
        if token.kind == "name" and token.text in scan.names.macros:
            raise refuse(scan.names, tag, f"a parameter may not have the name of the macro '{token.text}'.")
    scan.blocks.append(_Open("macro", tokens[0].text if tokens else ""))


_BEGIN: dict[str, Callable[[_Scan, Tag, list[Token]], None]] = {
    "for": _for,
    "set": _set,
    "with": _with,
    "filter": _filter,
    "macro": _macro,
}


def _end(scan: _Scan, tag: Tag) -> None:
    if not scan.blocks or "end" + scan.blocks[-1].word != tag.word:
        opened = f"{{% {scan.blocks[-1].word} %}} is still open" if scan.blocks else "no block is open"
        raise refuse(scan.names, tag, f"{{% {tag.word} %}} ends nothing: {opened}.")
    block = scan.blocks.pop()
    if block.text > MAX_CAPTURED:
        raise refuse(scan.names, tag, f"{block.text} characters inside {{% {block.word} %}}; at most {MAX_CAPTURED}.")
    if block.word in CAPTURES and block.weight * block.factor > MAX_WEIGHT:
        raise refuse(scan.names, tag, f"{{% {block.word} %}} repeats its values too often.")
    # a macro with a loop may answer anything: its text is counted while rendering, and no filter may multiply it
    weight = MAX_WEIGHT if block.loops else max(1, block.weight) + block.text // 1_024
    if block.word == "set":
        scan.names.weights[block.name] = max(weight, scan.names.weights.get(block.name, 1))
    elif block.word == "macro":
        scan.names.macros[block.name] = weight
        scan.loops = True  # its outputs may run more than once


def _has_assignment(tokens: list[Token]) -> bool:
    return any(token.text == "=" for token in tokens)
