"""Renders a campaign's parts (subject, text, HTML) for one recipient after another, bounded in steps and in output.

Literal text does not pass through the engine: a marker (NUL, number, NUL) stands for each stretch of it, the engine outputs
markers and values, and the caller replaces the markers by prepared fragments. Only inside blocks whose content becomes a value
(`set`, `filter`, `macro`) does text stay text.

The engine's fuel bounds its steps and, since MiniJinja 3, its output (64 characters a unit); templates.safety refuses what fuel
does not cover. If "None" appears in the output, the row is rendered again by an engine that tells a missing value from a person's
name.

A condition may ask for a value that a row does not have: `{% if plan == "club" %}` is simply false then. MiniJinja's strict mode,
which finds a missing value in an output, also refuses to compare one. So in conditions only, a column's name reads as empty text
if the row has none; `is defined` still gives the right answer.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from minijinja import Environment, Markup, TemplateError

from postroom.errors import Invalid, Permanent, TooLarge
from postroom.model.campaign import MissingPolicy
from postroom.templates.lexer import Skeleton, Tag, TagKind, cleaned, place_of, take_apart, verbatim
from postroom.templates.safety import TemplateGrowth, is_capture, measure

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<number>\d[\w.]*)|(?P<name>[^\W\d]\w*)|(?P<sign>==|[^\s])""", re.DOTALL
)
_TELLING = frozenset({"defined", "undefined", "none"})
MAX_SOURCE = 1_000_000
"""Characters of one part's template, at most."""
MAX_OUTPUT = 64_000_000
"""Characters of one rendered part, at most, fixed text included."""
MAX_ROW = 32_000_000
"""Characters of all values of a row, at most."""
FUEL = 1_000_000
"""Steps of the engine for one part: about 20 ms, and 64 million characters."""
TOKEN_MARK = "\x01"  # noqa: S105
"""Placeholder for the recipient's token in a fragment."""
TOKEN_NAME = "_recipient_token"  # noqa: S105
"""The variable that holds the recipient's token."""
UNSUBSCRIBE_MARK = "\x02"
"""Placeholder for the part of the unsubscribe token that differs by recipient."""
_SHADOWED = frozenset(dir(dict)) | frozenset({"cycler", "debug", "dict", "joiner", "namespace"})
"""Names MiniJinja finds on the mapping of values, or among its globals, if a row has no such value (a column called `items`)."""
_ABSENT = "_no_"
_UNKNOWN = frozenset({"UnknownFilter", "UnknownFunction", "UnknownTest", "UnknownMethod", "TooManyArguments", "OutOfFuel"})
_NAME = re.compile(r"`([^`.\[]+)[^`]*` is undefined")
Filters = Mapping[str, Callable[..., Any]]
Values = dict[str, str]


def lenient_condition(tag: Tag, columns: Collection[str]) -> str:
    """The tag's source, with missing columns in its condition reading as empty text."""
    tokens = list(_TOKEN.finditer(tag.body))
    texts = [token[0] for token in tokens]
    asking = tag.word in ("if", "elif")
    out, position = [], 0
    for index, token in enumerate(tokens):
        if token["name"] in ("if", "else"):
            asking = token[0] == "if"
        elif asking and token["name"] in columns and _is_value(texts, index):
            out += [tag.body[position : token.start()], f'({token[0]}|default(""))']
            position = token.end()
    body = "".join(out) + tag.body[position:]
    return Tag(tag.kind, body, tag.line).source


def _is_value(texts: list[str], index: int) -> bool:
    """Whether the name is a value: not an attribute, filter, test or argument name, and not the subject of `is defined`."""
    before = texts[index - 1] if index else ""
    after = [*texts[index + 1 : index + 4], "", "", ""]
    if before in (".", "|", "is") or (before == "not" and index > 1 and texts[index - 2] == "is") or after[0] == "=":
        return False
    return not (after[0] == "is" and (after[1] in _TELLING or (after[1] == "not" and after[2] in _TELLING)))


class RowError(Permanent):
    """One recipient's message cannot be made. The text names the line of the upload, the part and what to do."""


class MissingValue(RowError):
    """A variable that the template needs has no value."""


class ParsedTemplate(NamedTuple):
    """A part as its author wrote it, split into text and tags, and checked."""

    part: str
    """The name of the part in errors: "subject", "text template", "HTML template"."""
    skeleton: Skeleton
    growth: TemplateGrowth
    variables: frozenset[str]


class PartRules(NamedTuple):
    """How a part is rendered."""

    escaped: bool
    """Whether values are escaped for HTML."""
    marked: bool
    """Whether literal text stays out of the engine."""
    constants: Mapping[str, str]
    """Variables that are fragments when output by themselves; their text may contain placeholders."""


class Rendered(NamedTuple):
    """The engine's output: values and markers, alternating, with values at both ends."""

    values: list[str]
    markers: list[str]


def read_template(source: str, *, part: str) -> ParsedTemplate:
    """Read and check a part. Raises `Invalid` with line and column, `TooLarge` above `MAX_SOURCE`."""
    if len(source) > MAX_SOURCE:
        raise TooLarge(f"{part}: {len(source)} characters; a template may have {MAX_SOURCE}.")
    source = cleaned(source)
    skeleton = take_apart(source, part=part)
    growth = measure(skeleton, part=part)
    environment = Environment(keep_trailing_newline=True)
    try:
        environment.add_template(part, source)
        found = environment.undeclared_variables_in_template(part)
    except TemplateError as problem:
        raise Invalid(_syntax(problem, source, part)) from problem
    return ParsedTemplate(part, skeleton, growth, frozenset(found) - {"loop", "range"})


class TemplatePart:
    """One compiled part. For one thread at a time."""

    def __init__(
        self,
        source: ParsedTemplate,
        skeleton: Skeleton,
        rules: PartRules,
        *,
        missing: MissingPolicy,
        filters: Filters,
    ) -> None:
        """`skeleton`: the skeleton of `source` after tracking was added."""
        self.name = source.part
        self.loops = source.growth.loops
        self._file = "part.html" if rules.escaped else "part.txt"
        self._source, self.fragments, self._starts, self._lines = _assemble(skeleton, rules, source.variables)
        undefined = "semi_strict" if missing is MissingPolicy.ERROR else "chainable"
        self._engine = self._environment(undefined, filters)
        self._careful = self._environment(undefined, filters, finalizer=_not_none)
        self._strict = self._environment("semi_strict", filters)
        self._render = self._engine.render_template

    def render(self, values: Values, line: int) -> Rendered:
        """Render for one recipient, whose row begins on `line`. Raises `RowError` for a missing value or an exceeded limit."""
        try:
            text = self._render(self._file, **values)
            if "None" in text:
                text = self._careful.render_template(self._file, **values)
        except TemplateError as problem:
            raise self._row_error(problem, line) from problem
        except _NoneFound as problem:
            raise RowError(f"Row at line {line}: {self.name}: an output is none; write default(…) in its place.") from problem
        pieces = text.split("\x00")
        return Rendered(pieces[::2], pieces[1::2])

    def try_out(self, columns: Values) -> None:
        """Render once with sample values. Raises `Invalid` for an error that every recipient would have."""
        try:
            self._strict.render_template(self._file, **columns)
        except TemplateError as problem:
            if problem.kind in _UNKNOWN:
                raise Invalid(f"{self.name}, {self._line(problem)}{_what(problem)}.") from problem
            if "`unsubscribe_url` is undefined" in (problem.detail or ""):
                what = (
                    "unsubscribe_url exists only with POSTROOM_PUBLIC_URL: set it, or write {% if unsubscribe_url %} around it."
                )
                raise Invalid(f"{self.name}, {self._line(problem)}{what}") from problem

    def _environment(self, undefined: Any, filters: Filters, finalizer: Callable[[Any], Any] | None = None) -> Environment:
        environment = Environment(
            undefined_behavior=undefined,
            fuel=FUEL,
            filters=filters,
            auto_escape_callback=_escapes,
            finalizer=finalizer,
            keep_trailing_newline=True,
        )
        try:
            environment.add_template(self._file, self._source)
        except TemplateError as problem:
            raise Invalid(f"{self.name}, {self._line(problem)}{_what(problem)}.") from problem
        return environment

    def _line(self, problem: TemplateError) -> str:
        """The line in the author's template: tags keep the line they were written on."""
        if not problem.range or not self._starts:
            return ""
        found = max(0, bisect_right(self._starts, problem.range[0]) - 1)
        return f"line {self._lines[found]}: "

    def _row_error(self, problem: TemplateError, line: int) -> RowError:
        where = f"Row at line {line}: {self.name}, {self._line(problem)}"
        name = _NAME.search(problem.detail or "")
        if problem.kind != "UndefinedError" or not name:
            return RowError(f"{where}{_what(problem)}.")
        if name[1] == "unsubscribe_url":
            return RowError(f"{where}unsubscribe_url exists only with POSTROOM_PUBLIC_URL.")
        column = name[1].removeprefix(_ABSENT)
        return MissingValue(f"{where}'{column}' is missing or empty; fill it in, or write {{{{ {column}|default(\"…\") }}}}.")


class _NoneFound(Exception):
    """Raised inside the engine, caught in `TemplatePart.render`."""


def _not_none(value: Any) -> Any:
    """Called for every output of the careful engine."""
    if value is None:
        raise _NoneFound
    return value


class _Assembled(NamedTuple):
    source: str
    fragments: list[str]
    starts: list[int]
    """Byte offsets in `source`, as MiniJinja counts, at which tags begin."""
    lines: list[int]


def _assemble(skeleton: Skeleton, rules: PartRules, columns: frozenset[str]) -> _Assembled:
    """The source for MiniJinja, and the text that does not pass through it."""
    source: list[str] = []
    fragments: list[str] = []
    starts: list[int] = []
    lines: list[int] = []
    pending, size, depth = "", 0, 0 if rules.marked else 1

    def emit(text: str) -> None:
        nonlocal size
        source.append(text)
        size += len(text.encode())

    def flush() -> None:
        nonlocal pending
        if pending:
            emit(f"\x00{len(fragments)}\x00")
            fragments.append(pending)
            pending = ""

    for name in sorted(columns & _SHADOWED):  # every value is text
        emit(f"{{% if {name} is not string %}}{{% set {name} = {_ABSENT}{name} %}}{{% endif %}}")
    for piece in skeleton.pieces():
        if isinstance(piece, str):
            if depth:
                emit(verbatim(piece))
            else:
                pending += piece
            continue
        if not depth and (constant := rules.constants.get(piece.body)):
            pending += constant
            continue
        flush()
        starts.append(size)
        lines.append(piece.line)
        emit(lenient_condition(piece, columns))
        depth += _depth_change(piece)
    flush()
    return _Assembled("".join(source), fragments, starts, lines)


def _depth_change(tag: Tag) -> int:
    if tag.kind is not TagKind.BLOCK:
        return 0
    if tag.word in ("endset", "endfilter", "endmacro"):
        return -1
    return 1 if is_capture(tag) else 0


def _escapes(file: str) -> bool:
    return file.endswith(".html")


def _what(problem: TemplateError) -> str:
    if problem.kind == "OutOfFuel":
        return f"more than {FUEL} steps, or more than {MAX_OUTPUT} characters"
    return problem.detail or problem.message.partition(" (in ")[0]


def _syntax(problem: TemplateError, source: str, part: str) -> str:
    if problem.range is None:
        return f"{part}: {_what(problem)}."
    position = len(source.encode()[: problem.range[0]].decode(errors="ignore"))
    return f"{part}, {place_of(source, position)}: {_what(problem)}."


def safe(text: str) -> Markup:
    """Text that is escaped already."""
    return Markup(text)
