"""Which column feeds which variable: as the maker of a campaign said, else by its name."""

from __future__ import annotations

import pytest

from postroom.errors import Invalid
from postroom.model.campaign import CampaignSpec, Import
from postroom.recipients_file.layout import layout_for
from tests.fakes.campaigns import campaign_spec

HEAD = b"E-Mail;Vorname;first_name;City\nann@a.example;Ann;x;Rome\n"


SOURCE = Import("key", "people.csv", ("city", "first_name", "plan"))


def spec(*, email: str | None = None, **headings: str) -> CampaignSpec:
    return campaign_spec(email_column=email, headings=tuple(headings.items()))


@pytest.mark.parametrize(
    ("given", "columns"),
    [
        (spec(), (3, 2, None)),
        (spec(first_name="Vorname"), (3, 1, None)),
        (spec(first_name="VORNAME", city="vorname"), (1, 1, None)),
        (spec(other="nowhere"), (3, 2, None)),  # the template does not ask for it
    ],
)
def test_a_variable_takes_the_column_that_was_named_else_that_of_its_name(
    given: CampaignSpec, columns: tuple[int | None, ...]
) -> None:
    assert layout_for(given, SOURCE, HEAD, whole=True).columns == columns


def test_a_heading_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match=r"no column 'Plan' for the variable 'plan' in people\.csv"):
        layout_for(spec(plan="Plan"), SOURCE, HEAD, whole=True)


def test_the_column_of_addresses_can_be_named() -> None:
    assert layout_for(spec(email="e-mail"), SOURCE, HEAD, whole=True).address == 0
    with pytest.raises(Invalid, match="no column 'Mail address'"):
        layout_for(spec(email="Mail address"), SOURCE, HEAD, whole=True)
