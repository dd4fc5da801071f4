"""Finds columns: header names, the column of addresses in many languages, and the columns that a template uses.

Names are compared without case, accents, spaces and punctuation.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from postroom.errors import Invalid
from postroom.model.address import AddressError, parse_address, trim


def squeeze(name: str) -> str:
    """A name's letters and digits: `E-Mail Adresse` and `email_adresse` are equal."""
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    return "".join(character for character in decomposed if character.isalnum())


def _squeezed(*lines: str) -> frozenset[str]:
    return frozenset(squeeze(name) for line in lines for name in line.split("|"))


PLAIN = _squeezed(
    "email|emails|mail|mail address|email address|email addresses|email id|email adress|eaddress|electronic mail|email 1",
    "courriel|adresse courriel|adresse de courriel|adresse email|adresse mail|adresse électronique|adresse de messagerie",
    "E-Mail-Adresse|Mailadresse|E-Post-Adresse|E-Mail-Anschrift",
    "correo|correo electrónico|dirección email|dirección de correo|dirección de correo electrónico|correu electrònic",
    "posta elettronica|indirizzo email|indirizzo mail|indirizzo di posta elettronica",
    "endereço email|endereço de email|endereço eletrônico|correio eletrônico|correio electrónico",
    "emailadres|mailadres|e-post|e-postadress|e-postadresse|sähköposti|sähköpostiosoite|netfang|tölvupóstfang",
    "adres email|adres e-mailowy|poczta elektroniczna|adres poczty elektronicznej|e-mail cím|emailová adresa|elektronická pošta",
    "adresă de email|adresa e-mail|e-pošta|e-posta|e-posta adresi|eposta aadress|meil|meiliaadress|e-pasts|el. paštas|surel",
    "địa chỉ email|thư điện tử",
    "почта|электронная почта|адрес электронной почты|эл. почта|эл. адрес|емейл|имейл|имэйл|мейл|електронна пошта|електронна поща",
    "ηλεκτρονικό ταχυδρομείο|ηλεκτρονική διεύθυνση|διεύθυνση email",
    "邮箱|邮箱地址|电子邮箱|电子邮件|电子邮件地址|邮件|電郵|電郵地址|電子郵件|電子郵件地址|電子信箱|信箱",
    "メール|メールアドレス|Eメール|Eメールアドレス|電子メール|メアド|이메일|이메일 주소|메일|메일 주소|전자우편",
    "البريد الإلكتروني|بريد إلكتروني|الإيميل|ایمیل|דוא״ל|דואר אלקטרוני|אימייל|ईमेल|ईमेल पता|อีเมล|อีเมล์",
)

"""Certainly addresses."""

QUALIFIED = _squeezed(
    "primary email|primary email address|main email|E-mail 1 - Value|email address 1|emailaddress1|recipient email",
    "work email|business email|company email|personal email|home email|private email|contact email|customer email|client email",
    "user email|member email|subscriber email|to email|email to|E-Mail privat|E-Mail geschäftlich|email profesional",
)

"""Addresses, if no column has a plain name."""
VAGUE = _squeezed(
    "to|recipient|recipients|address|addresses|contact|contacts|subscriber|subscribers|user|username|user id|login",
    "Empfänger|destinataire|destinatario|destinatário|ontvanger|получатель|收件人|宛先|受信者",
)
"""May be something else: only if the cells are addresses."""
MAX_COLUMNS = 2_000
"""The limit of some spreadsheets; each column is checked for addresses."""
_SHOWN = 30
_BY_NAME = "with --email-column (in the API: `email` among a campaign's `columns`)"


def header_names(cells: Sequence[str]) -> tuple[str, ...]:
    """One name per column: an empty one becomes `column3` (its number), the second of two equal ones `name_2`.

    Raises `Invalid` for more than `MAX_COLUMNS`."""
    _check_width(len(cells))
    names: dict[str, None] = {}
    counts: dict[str, int] = {}
    for number, cell in enumerate(cells, 1):
        name = unique = " ".join(trim(cell).split()) or f"column{number}"
        while unique in names:
            counts[name] = counts.get(name, 1) + 1  # linear time for many equal names
            unique = f"{name}_{counts[name]}"
        names[unique] = None
    return tuple(names)


def numbered_names(width: int) -> tuple[str, ...]:
    """Names for a file without a header: `column1`, `column2` … Raises `Invalid` for more than `MAX_COLUMNS`."""
    _check_width(width)
    return tuple(f"column{number}" for number in range(1, width + 1))


def find_column(names: Sequence[str], wanted: str) -> int | None:
    """The first column with that name, exact matches first."""
    if wanted in names:
        return names.index(wanted)
    squeezed = squeeze(wanted)
    return next((index for index, name in enumerate(names) if squeezed and squeeze(name) == squeezed), None)


def address_column(names: Sequence[str], rows: Sequence[Sequence[str]], asked_for: str | None) -> int:
    """The address column: `asked_for`, else one with a usual name, else the only one whose sampled cells are addresses.

    Raises `Invalid`, listing the columns."""
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
    """Whether a cell is an address, with or without a display name."""
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
    """Whether at least half of the non-empty sampled cells are addresses."""
    cells = [row[index] for row in rows if index < len(row) and trim(row[index])]
    return bool(cells) and 2 * sum(map(is_address, cells)) >= len(cells)


def _listed(names: Sequence[str]) -> str:
    shown = [f"“{name[:60]}”" for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
