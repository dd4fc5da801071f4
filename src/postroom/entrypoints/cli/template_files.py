"""Templates as files: `news.html` or `news.mjml`, beside it `news.txt` (text part) and `news.toml` (name, subject, inline_css).

Only the first is needed. What is pulled can be pushed again and is the same.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from postroom.entrypoints.cli.making import read_text
from postroom.errors import Invalid
from postroom.model.template import Language, NewTemplate, Template, TemplateSource
from postroom.templates.mjml import is_mjml

_KEYS = ("name", "subject", "inline_css")
_BODIES = (".html", ".htm", ".mjml")
_NO_FILE_NAME = re.compile(r"[^\w.-]+")


class TemplateFile(NamedTuple):
    """What the files say; None: they do not."""

    path: Path
    body: str
    language: Language
    text: str | None
    name: str | None
    subject: str | None
    inline_css: bool | None

    def new(self, *, name: str | None, known: Template | None, note: str = "") -> NewTemplate:
        """For a save; what the files leave open stays as it is `known`."""
        inline_css = known.inline_css if known and self.inline_css is None else self.inline_css
        return NewTemplate(
            name=name or self.name or self.path.stem,
            subject=self.subject if self.subject is not None else known.subject if known else "",
            html=self.body if self.language is Language.HTML else None,
            mjml=self.body if self.language is Language.MJML else None,
            text=self.text,
            inline_css=inline_css is not False,
            note=note,
        )


def read_files(path: Path) -> TemplateFile:
    """`path` and what stands beside it. `Invalid`."""
    if path.suffix.lower() in (".txt", ".toml"):
        raise Invalid(f"{path} goes with a template: name the .html or .mjml file")
    if path.suffix.lower() not in _BODIES:
        raise Invalid(f"{path} is no template: its name must end in {', '.join(_BODIES)}")
    body = read_text(path)
    language = Language.MJML if path.suffix.lower() == ".mjml" or is_mjml(body) else Language.HTML
    text, about = path.with_suffix(".txt"), path.with_suffix(".toml")
    said = _about(about) if about.exists() else {}
    return TemplateFile(
        path,
        body,
        language,
        text=read_text(text) if text.exists() else None,
        name=_text(about, said, "name"),
        subject=_text(about, said, "subject"),
        inline_css=_flag(about, said, "inline_css"),
    )


def write_files(directory: Path, name: str, source: TemplateSource, *, force: bool) -> list[Path]:
    """The files of a template, in a directory that is made. `Invalid`: they are there already, or cannot be written."""
    stem = _NO_FILE_NAME.sub("-", name).strip(".-") or "template"
    about = {"name": name, "subject": source.subject, "inline_css": source.inline_css}
    files = {
        directory / f"{stem}.{source.language.value}": source.body,
        directory / f"{stem}.toml": "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in about.items()),
    }
    if source.text is not None:
        files[directory / f"{stem}.txt"] = source.text
    there = [path.name for path in files if path.exists()]
    if there and not force:
        raise Invalid(f"{', '.join(there)} would be overwritten: choose another directory, or --force")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            path.write_text(content, "utf-8", newline="")
        if source.text is None:
            (directory / f"{stem}.txt").unlink(missing_ok=True)  # an older text part would be pushed back
    except OSError as error:
        raise Invalid(f"{directory} cannot be written: {error.strerror}") from error
    return list(files)


def _about(path: Path) -> dict[str, object]:
    try:
        said = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{path}: {error}") from error
    if unknown := sorted(said.keys() - set(_KEYS)):
        raise Invalid(f"{path}: there is no key {unknown[0]}; there are {', '.join(_KEYS)}")
    return said


def _text(path: Path, said: dict[str, object], key: str) -> str | None:
    value = said.get(key)
    if value is None or isinstance(value, str):
        return value
    raise Invalid(f"{path}: {key} must be text")


def _flag(path: Path, said: dict[str, object], key: str) -> bool | None:
    value = said.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise Invalid(f"{path}: {key} must be true or false")
