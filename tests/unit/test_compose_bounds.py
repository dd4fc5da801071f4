"""What a template may not do to the machine: each ends in a clear error, at once, in little memory."""

from __future__ import annotations

import resource
import time

import pytest

from postroom.delivery.compose import RowError
from postroom.errors import Invalid, TooLarge
from tests.unit.composing import compile_it, compose_it

HOSTILE = {
    "power of repeats": "{{ 'a' * 64 * 64 * 64 * 64 }}",
    "repeat by a value": "{{ 'a' * x|int }}",
    "repeat by a large number": "{{ 'a' * 100000000 }}",
    "repeated lists": "{% set a = 4e3 * 2.5 * [1] %}{% set b = 4e3 * 2.5 * [a] %}{{ b }}",
    "repeat by a power": "{% set a = [1] * 2 ** 20 %}{% set a = 2 ** 20 * [a] %}{{ a }}",
    "repeat by a small power": "{% set a = [1] * 0.001 ** -3 %}{{ a }}",
    "repeat by a product": "{{ x|float * 64 * [x] }}",
    "doubling in a namespace": "{% set ns = namespace(s='a') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "doubling by set": "{% set a = 'aaaaaaaa' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
    "doubling by set blocks": "".join(f"{{% set a{n + 1} %}}{{{{ a{n} }}}}{{{{ a{n} }}}}{{% endset %}}" for n in range(40)),
    "doubling by lists": "{% set a = ['a'] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}",
    "recursive macro": "{% macro f(s) %}{{ f(s ~ s) }}{% endmacro %}{{ f('a') }}",
    "macro that calls what it is given": "{% macro f(g, s) %}{{ g(g, s ~ s) }}{% endmacro %}{{ f(f, 'a') }}",
    "macro under not": "{% macro g(s) %}{{ s }}{% endmacro %}{% macro f(s) %}{{ not g(s) }}{% endmacro %}{{ f('a') }}",
    "chained macro calls": "{% macro f(s) %}{{ s }}{{ s }}{{ s }}{{ s }}{% endmacro %}{{ f(f(f(f(f('a'))))) }}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "loop through a name": "{% for i in [1] %}{{ loop([1]) }}{% endfor %}",
    "replace by a value": "{{ x|replace('a', x) }}",
    "replace by a long text": "{{ x|replace('a', '" + "b" * 100 + "') }}",
    "replace chain": "{{ x|replace('a', 'aaaaaaaaaa')|replace('a', 'aaaaaaaaaa') }}",
    "join by a value": "{{ x|list|join(x) }}",
    "format width": "{{ '%0100000000d'|format(1) }}",
    "format of a value": "{{ x|format(1) }}",
    "format method": "{{ '{:>100000000}'.format('a') }}",
    "replace method": "{{ x.replace('a', x) }}",
    "indent": "{{ x|indent(100000000) }}",
    "map with arguments": "{{ [x]|map('indent', 100000000)|list }}",
    "json indent": "{{ [x]|tojson(indent=100000000) }}",
    "printing a range": "{{ range(100000) }}",
    "include": "{% include 'x' %}",
    "import": "{% import 'x' as y %}",
    "extends": "{% extends 'x' %}",
    "block": "{% block a %}{{ self.a() }}{% endblock %}",
    "call block": "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}",
    "debug": "{{ debug() }}",
    "deep negation": "{{ " + "-" * 100_000 + "1 }}",
    "deep not": "{{ " + "not " * 100_000 + "1 }}",
    "deep parentheses": "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}",
    "long sum": "{{ 1" + " + 1" * 100_000 + " }}",
    "many elif": "{% if x %}" + "{% elif x %}" * 20_000 + "{% endif %}",
    "deep blocks": "{% if x %}" * 2_000 + "{% endif %}" * 2_000,
    "loop in a set block": "{% set a %}{% for i in range(1000) %}{{ x }}{% endfor %}{% endset %}{{ a }}",
    "long text in a macro": "{% macro f() %}" + "t" * 100_000 + "{% endmacro %}{% for i in range(1000) %}{{ f() }}{% endfor %}",
    "endless range": "{% for i in range(1000000000) %}{% endfor %}",
    "too many tags": "{{ x }}" * 6_000,
    "too long": "x" * 1_000_001,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_at_once(name: str) -> None:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises((Invalid, RowError)):
        compose_it(compile_it(HOSTILE[name]), {"x": "a" * 60_000})
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.mark.parametrize(
    ("template", "row"),
    [
        ("{% for i in range(10000) %}{% for j in range(10000) %}{{ x }}{% endfor %}{% endfor %}", "x"),
        ("{% for i in range(5000) %}{{ x }}{% endfor %}", "x" * 60_000),
        ("{% for c in x|list %}{{ x }}{% endfor %}", "x" * 10_000),
        ("{% for i in range(1000) %}" + "<p>text</p>" * 10_000 + "{% endfor %}{{ x }}", "x"),
        ("{{ '%c'|format(0) }}{{ x }}", "x"),
    ],
)
def test_what_depends_on_the_row_ends_that_row(template: str, row: str) -> None:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises((RowError, Invalid), match=r"steps|come|characters|NUL|format"):
        compose_it(compile_it(template), {"x": row})
    assert time.process_time() - started < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_a_template_over_the_limit_says_so() -> None:
    with pytest.raises(TooLarge, match="1000000"):
        compile_it("x" * 1_000_001)


@pytest.mark.parametrize(
    "template",
    [
        "{{ x|upper }} {{ x|default('d') }} {{ x ~ ' ' ~ x }} {{ x[0] }} {{ x|length > 3 }}",
        "{% set a = x|trim %}{{ a }}{% set b %}<b>{{ a }}</b>{% endset %}{{ b }}",
        "{% macro button(url, label) %}<a href='{{ url }}'>{{ label }}</a>{% endmacro %}{{ button('https://a.example', x) }}",
        "{% for i in range(3) %}{{ loop.index }}{% if not loop.last %}, {% endif %}{% else %}none{% endfor %}",
        "{% for part in x.split(',') %}{{ part|trim|title }}{% endfor %}",
        "{% filter upper %}{{ x }}{% endfilter %}{% with y = x %}{{ y }}{% endwith %}",
        "{% if x is defined and x != '' %}{{ x }}{% elif x is not defined %}b{% else %}c{% endif %}",
        "{{ '%.2f'|format(3.14159) }} {{ x|replace('a', 'bb') }} {{ x|list|join(', ') }} {{ 3 * 1.5 }} {{ 2 ** 3 }} {{ 7|float * 1.19 * 2 + 5 * 3 }} {{ x|truncate(length=20) }}",
        "{{ ['a', 'b']|map('upper')|join('-') }} {{ x|urlencode }} {{ x|tojson }} {{ {'a': 1}.items()|list }}",
        "{% raw %}{{ raw }}{% endraw %}{# comment #}{{- x -}} ",
        "{% autoescape false %}{{ x }}{% endautoescape %}{{ x if x else 'no' }}{{ loop is defined }}",
        "{% for row in [[1, 2], [3, 4]] %}{% for cell in row %}{{ loop.cycle('odd', 'even') }}{{ cell }}{% endfor %}{% endfor %}",
    ],
)
def test_what_people_write_is_allowed(template: str) -> None:
    assert compose_it(compile_it(template), {"x": "abc, def"})


@pytest.mark.parametrize(
    ("template", "place"),
    [
        ("<p>\n{{ x", "HTML template, line 2, column 1: the tag {{ is never closed; add }}."),
        ("a\n\n{% if x %}b", "HTML template"),
        ("a\n{{ x y }}", "HTML template, line 2, column 6"),
        ("a\n{% endif %}", "HTML template, line 2: {% endif %} ends nothing"),
        ("a\n{{ x|nosuch }}", "HTML template, line 2: the filter nosuch is not available"),
        ("a\n\n{{ x.nosuch() }}", "HTML template, line 3: the method nosuch() is not available"),
        ("{% raw %}a", "HTML template, line 1: {% raw %} is never closed"),
        ("a{# b", "HTML template, line 1, column 2: the comment is never closed"),
        ("\n{{ x|upper(1, 2, 3) }}", "HTML template, line 2: too many arguments."),
    ],
)
def test_a_mistake_names_its_place(template: str, place: str) -> None:
    with pytest.raises(Invalid) as caught:
        compile_it(template)
    assert str(caught.value).startswith(place)
