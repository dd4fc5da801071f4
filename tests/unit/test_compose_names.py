"""A column may have any name: what a row lacks is missing, whatever the engine knows under that name."""

from __future__ import annotations

import pytest

from postroom.delivery.compose import RowError
from postroom.model.campaign import MissingPolicy
from tests.unit.composing import compile_it, compose_it, opened, part_of

NAMES = ["items", "values", "keys", "get", "copy", "update", "dict", "debug", "cycler", "namespace", "__class__", "things"]


@pytest.mark.parametrize("name", NAMES)
def test_a_value_comes_out_and_a_missing_one_has_its_default(name: str) -> None:
    html = f'<p>{{{{ {name}|default("none") }}}}{{% if {name} %}}!{{% endif %}}</p>'
    composer = compile_it(html, subject=f"{{{{ {name}|default('no') }}}}", text=None)
    assert part_of(opened(compose_it(composer, {name: "two", "_": "x"})), "html") == "<p>two!</p>"
    message = opened(compose_it(composer, {name: None}))
    assert (message["Subject"], part_of(message, "html"), part_of(message, "plain")) == ("no", "<p>none</p>", "none")


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_one_fails_the_row_by_its_name_or_is_empty(name: str) -> None:
    html = f"<p>\n{{{{ {name} }}}}</p>"
    with pytest.raises(RowError, match=f"HTML template, line 2: '{name}' is missing or empty"):
        compose_it(compile_it(html), {})
    composer = compile_it(html, missing=MissingPolicy.EMPTY)
    assert part_of(opened(compose_it(composer, {})), "html") == "<p>\n</p>"


def test_inside_a_macro_too() -> None:
    html = '{% macro m() %}{{ items|default("none") }}{% endmacro %}<p>{{ m() }}</p>'
    assert part_of(opened(compose_it(compile_it(html), {})), "html") == "<p>none</p>"
    assert part_of(opened(compose_it(compile_it(html), {"items": "7"})), "html") == "<p>7</p>"
