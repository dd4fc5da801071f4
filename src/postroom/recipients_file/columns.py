"""Which column is which: the header's names, the column of addresses, and the columns a template asks for."""

from __future__ import annotations

from collections.abc import Sequence

from postroom.errors import Invalid
from postroom.model.address import AddressError, parse_address, trim
from postroom.recipients_file.headings import PLAIN, QUALIFIED, VAGUE, squeeze

MAX_COLUMNS = 2_000
"""More is no list of recipients; some spreadsheets end there too, and every column is looked at for addresses."""

_SHOWN = 30
_BY_NAME = "with --email-column (in the API: `email` among a campaign's `columns`)"


def header_names(cells: Sequence[str]) -> tuple[str, ...]:
    """One name a column: an empty one becomes `column3` (its number), the second of two equal ones `name_2`.
    `Invalid`: more than `MAX_COLUMNS`."""
    _check_width(len(cells))
    names: dict[str, None] = {}
    counts: dict[str, int] = {}
    for number, cell in enumerate(cells, 1):
        name = unique = " ".join(trim(cell).split()) or f"column{number}"
        while unique in names:
            counts[name] = counts.get(name, 1) + 1  # goes on where the last of this name ended: many equal ones take no longer
            unique = f"{name}_{counts[name]}"
        names[unique] = None
    return tuple(names)


def numbered_names(width: int) -> tuple[str, ...]:
    """The names of the columns of a file without a header: `column1`, `column2` … `Invalid`: more than `MAX_COLUMNS`."""
    _check_width(width)
    return tuple(f"column{number}" for number in range(1, width + 1))


def find_column(names: Sequence[str], wanted: str) -> int | None:
    """The first column with that name: exactly, else squeezed."""
    if wanted in names:
        return names.index(wanted)
    squeezed = squeeze(wanted)
    return next((index for index, name in enumerate(names) if squeezed and squeeze(name) == squeezed), None)


def address_column(names: Sequence[str], rows: Sequence[Sequence[str]], asked_for: str | None) -> int:
    """The column of addresses: the one asked for, else a usual name, else the only one whose sampled cells are addresses.
    `Invalid` names the columns there are."""
    if asked_for is not None:
        found = find_column(names, asked_for)
        if found is None:
            raise Invalid(f"There is no column {asked_for!r}. The columns are: {_listed(names)}.")
        return found
    squeezed = [squeeze(name) for name in names]
    for tier in (PLAIN, QUALIFIED):
        if known := [index for index, name in enumerate(squeezed) if name in tier]:
            return known[0]
    holding = [index for index in range(len(names)) if _holds_addresses(index, rows)]
    if vague := [index for index in holding if squeezed[index] in VAGUE]:
        return vague[0]
    if len(holding) == 1:
        return holding[0]
    if holding:
        several = _listed([names[index] for index in holding])
        raise Invalid(f"Several columns hold addresses: {several}. Say which one to use {_BY_NAME}.")
    raise Invalid(
        f"No column of addresses was found. The columns are: {_listed(names)}. "
        f"Name the right one `email`, or say which one it is {_BY_NAME}."
    )


def is_address(cell: str) -> bool:
    """Whether a cell is an address, with or without a name."""
    if "@" not in cell and "\uff20" not in cell:
        return False
    try:
        parse_address(cell)
    except AddressError:
        return False
    return True


def _check_width(width: int) -> None:
    if width > MAX_COLUMNS:
        raise Invalid(
            f"The file has {width:,} columns: more than {MAX_COLUMNS:,}. "
            "Upload only those that are used; or was it saved with rows and columns swapped?"
        )


def _holds_addresses(index: int, rows: Sequence[Sequence[str]]) -> bool:
    """Whether at least half of the sampled cells that are not empty are addresses."""
    cells = [row[index] for row in rows if index < len(row) and trim(row[index])]
    return bool(cells) and 2 * sum(map(is_address, cells)) >= len(cells)


def _listed(names: Sequence[str]) -> str:
    shown = [f"“{name[:60]}”" for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
