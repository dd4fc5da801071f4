"""Refuses templates that could use unbounded time or memory, before the engine sees them.

MiniJinja's fuel bounds steps and output, but a nested expression overflows its stack, a list that contains another one twice
takes for ever to print, and `*` copies lists unseen. So constructs that feed a result back into itself are not part of the
language (namespaces, recursive loops, macros that call macros), constructs that multiply do it by literal numbers, and each
expression has a *weight*: how many times the size of a row its result can be.

The words listed below are the language. A filter, method or function that is not listed is refused: one that was never examined
might repeat text a million times.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from postroom.errors import Invalid
from postroom.templates.lexer import Skeleton, Tag, TagKind


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAX_WEIGHT = 64
MAX_TOKENS = 256
MAX_NUMBER = 1_000
_WORDS = _words("False None True and else false if in is loop none not or true")
_PLAIN_FILTERS = _words(
    "abs attr bool capitalize chain count d default dictsort e escape filesizeformat first float groupby int items keys "
    "last length lines list lower max min pluralize reject rejectattr reverse round safe select selectattr sort split "
    "string striptags sum title trim truncate unique upper urlencode values wordcount"
)
_LITERAL_FILTERS = frozenset({"replace", "join", "indent", "wordwrap", "batch", "slice"})
"""Their arguments multiply, so they must be literals."""
_ARGUMENT_WORDS = frozenset({",", "=", "true", "false", "d", "attribute", "width", "first", "blank", "fill_with"})
_MAPPED = _words("attr capitalize e escape float int length lower round string striptags title trim upper")
_METHODS = _words(
    "capitalize count cycle endswith find get isalnum isalpha isascii isdigit islower isnumeric isupper items keys lower "
    "lstrip rfind rstrip split splitlines startswith strip title upper values"
)
_BINDS_TIGHTER = frozenset({"*", "/", "//", "%", "**"})
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<number>\d[\d_]*(?:\.\d+)?(?:[eE][-+]?\d+)?)"""
    r"""|(?P<name>[^\W\d]\w*)|(?P<sign>\*\*|//|[=!<>]=|.))""",
    re.DOTALL,
)
_FORMAT = re.compile(r"(?:[^%]|%%|%[-+ #0]*\d{0,2}(?:\.\d{1,2})?[a-zA-Z])*")
MAX_TAGS = 5_000
MAX_ELIF = 100
MAX_CAPTURED = 16_384
"""Characters of literal text inside one macro, `set` or `filter` block, at most: a loop may copy them."""
CAPTURES = frozenset({"set", "filter", "macro"})
"""Blocks whose content becomes a value (`set` only if it has an end tag)."""
_BLOCKS = frozenset({"if", "elif", "else", "for", "set", "with", "filter", "macro", "autoescape", "do"})
_ENDS = frozenset({"endif", "endfor", "endset", "endwith", "endfilter", "endmacro", "endautoescape"})


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an expression."""

    kind: str
    text: str


@dataclass(slots=True)
class Names:
    """The names a template has defined so far."""

    part: str
    weights: dict[str, int] = field(default_factory=dict)
    """Weights of names assigned in the template; those of the row weigh one."""
    macros: dict[str, int] = field(default_factory=dict)


def tokens_of(body: str) -> list[Token]:
    """The tokens of a tag's body."""
    return [Token(str(m.lastgroup), m[str(m.lastgroup)]) for m in _TOKEN.finditer(body.strip())]


def refuse(names: Names, tag: Tag, what: str) -> Invalid:
    return Invalid(f"{names.part}, line {tag.line}: {what}")


def weigh(names: Names, tag: Tag, tokens: list[Token], *, may_call_macro: bool = False, may_range: bool = False) -> int:
    """The weight of an expression: the sum of its operands times its factors. Raises `Invalid` above `MAX_WEIGHT`."""
    if len(tokens) > MAX_TOKENS:
        raise refuse(names, tag, f"an expression of {len(tokens)} tokens; at most {MAX_TOKENS}.")
    weight, factor = 0, 1
    for index, token in enumerate(tokens):
        before = tokens[index - 1].text if index else ""
        after = tokens[index + 1].text if index + 1 < len(tokens) else ""
        if token.text == "*" and token.kind == "sign":
            factor *= _multiplier(names, tag, tokens, index)
        elif token.kind == "name" and before == "|":
            factor *= _filter_factor(names, tag, tokens, index)
        elif token.text == "(" and token.kind == "sign":
            factor *= _call(names, tag, tokens, index, may_call_macro=may_call_macro, may_range=may_range)
        elif token.kind == "string" or (token.kind == "name" and before not in (".", "is") and after != "="):
            weight += names.weights.get(token.text, 1) if token.text not in _WORDS else 0
    if weight * factor > MAX_WEIGHT:
        raise refuse(names, tag, "this expression repeats its values too often; compute the value in the recipients' file.")
    return max(1, weight * factor)


def _multiplier(names: Names, tag: Tag, tokens: list[Token], index: int) -> int:
    """The factor of `*`. It repeats text and lists, and types are not known here, so one whole side must be a literal number."""
    right, after = (*tokens[index + 1 : index + 3], Token("sign", ""), Token("sign", ""))[:2]
    left, before = (*reversed(tokens[max(0, index - 2) : index]), Token("sign", ""), Token("sign", ""))[:2]
    sides = [right] if after.text != "**" else []
    sides += [left] if before.text not in _BINDS_TIGHTER else []
    for side in sides:
        if side.kind == "number":
            number = float(side.text.replace("_", ""))
            if not number.is_integer():
                return 1  # only whole numbers repeat
            if number <= MAX_WEIGHT:
                return max(1, int(number))
    what = f"`*` needs a number up to {MAX_WEIGHT}, or one with decimals, beside it; compute the value in the recipients' file."
    raise refuse(names, tag, what)


def _call(names: Names, tag: Tag, tokens: list[Token], index: int, *, may_call_macro: bool, may_range: bool) -> int:
    """The factor of a call. Filters and tests are checked elsewhere; a method or function must be a known one."""
    callee = tokens[index - 1] if index else Token("sign", "")
    before = tokens[index - 2].text if index > 1 else ""
    if callee.text in (")", "]"):
        raise refuse(names, tag, "a result cannot be called.")
    if callee.kind == "string":
        raise refuse(names, tag, "a text cannot be called.")
    is_test = before == "is" or (before == "not" and index > 2 and tokens[index - 3].text == "is")
    if callee.kind != "name" or before == "|" or is_test or (callee.text in _WORDS and callee.text != "loop"):
        return 1
    if before == ".":
        if callee.text not in _METHODS:
            raise refuse(names, tag, f"the method {callee.text}() is not available; there may be a filter of that name.")
        return 1
    if callee.text == "range" and may_range and index == 1:
        return 1
    if callee.text in names.macros and may_call_macro and tag.kind is TagKind.OUTPUT:
        return names.macros[callee.text]
    if callee.text in names.macros:
        raise refuse(names, tag, f"the macro {callee.text}() may only be called in an output, outside of macros and set blocks.")
    raise refuse(names, tag, f"the function {callee.text}() is not available here.")


def _filter_factor(names: Names, tag: Tag, tokens: list[Token], index: int) -> int:
    name = tokens[index].text
    if name in _PLAIN_FILTERS:
        return 1
    arguments = _arguments(tokens, index + 1)
    if name in _LITERAL_FILTERS:
        return _literal_factor(names, tag, name, arguments)
    if name == "tojson" and not arguments:
        return 2
    if name == "map" and arguments and (arguments[0].text.strip("'\"") in _MAPPED or arguments[0].text == "attribute"):
        return 1
    if name == "format" and _is_plain_format(tokens, index):
        return 1
    raise refuse(
        names, tag, f"the filter {name} is not available{' in this form' if name in ('map', 'format', 'tojson') else ''}."
    )


def _is_plain_format(tokens: list[Token], index: int) -> bool:
    """Whether it is `"…"|format(…)` with literal widths below 100."""
    return index > 1 and tokens[index - 2].kind == "string" and _FORMAT.fullmatch(tokens[index - 2].text) is not None


def _literal_factor(names: Names, tag: Tag, name: str, arguments: list[Token]) -> int:
    """How many times longer a filter can make its text, from its literal arguments."""
    factor = 1
    for token in arguments:
        if token.kind == "string":
            factor = max(factor, len(token.text) - 1)
        elif token.kind == "number":
            number = float(token.text.replace("_", ""))
            if number > MAX_NUMBER:
                raise refuse(names, tag, f"{name}({token.text}): at most {MAX_NUMBER}.")
            factor = max(factor, int(number) if name == "indent" else 1)
        elif token.text not in _ARGUMENT_WORDS:
            raise refuse(names, tag, f"the arguments of {name} must be written out.")
    return factor


def _arguments(tokens: list[Token], index: int) -> list[Token]:
    """The tokens between the parentheses that open at `index`; empty if none open there."""
    if index >= len(tokens) or tokens[index].text != "(":
        return []
    depth = 0
    for end in range(index, len(tokens)):
        depth += (tokens[end].text == "(") - (tokens[end].text == ")")
        if not depth:
            return tokens[index + 1 : end]
    return tokens[index + 1 :]


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
class TemplateGrowth:
    """What a template can make of a row."""

    loops: bool
    """Whether an output may run more than once."""


def measure(skeleton: Skeleton, *, part: str) -> TemplateGrowth:
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
    return TemplateGrowth(scan.loops)


def is_capture(tag: Tag) -> bool:
    """Whether the content of a block becomes a value: it is then rendered as text, not as prepared fragments."""
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
        _end_block(scan, tag)
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
    """Give each assigned name the weight of the whole tag: coarse, but never too low."""
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


def _end_block(scan: _Scan, tag: Tag) -> None:
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
