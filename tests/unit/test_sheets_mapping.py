"""Which column feeds which variable: as the maker of a campaign said, else by its name."""

from __future__ import annotations

import pytest

from postroom.errors import Invalid
from postroom.model.campaign import Import
from postroom.recipients_file.layout import layout_for

HEAD = b"E-Mail;Vorname;first_name;City\nann@a.example;Ann;x;Rome\n"


def source(*, email: str | None = None, **headings: str) -> Import:
    return Import("key", "people.csv", email, ("city", "first_name", "plan"), headings=tuple(headings.items()))


@pytest.mark.parametrize(
    ("given", "columns"),
    [
        (source(), (3, 2, None)),
        (source(first_name="Vorname"), (3, 1, None)),
        (source(first_name="VORNAME", city="vorname"), (1, 1, None)),
        (source(other="nowhere"), (3, 2, None)),  # the template does not ask for it
    ],
)
def test_a_variable_takes_the_column_that_was_named_else_that_of_its_name(given: Import, columns: tuple[int | None, ...]) -> None:
    assert layout_for(given, HEAD, whole=True).columns == columns


def test_a_heading_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match=r"no column 'Plan' for the variable 'plan' in people\.csv"):
        layout_for(source(plan="Plan"), HEAD, whole=True)


def test_the_column_of_addresses_can_be_named() -> None:
    assert layout_for(source(email="e-mail"), HEAD, whole=True).address == 0
    with pytest.raises(Invalid, match="no column 'Mail address'"):
        layout_for(source(email="Mail address"), HEAD, whole=True)
