"""A template service on the embedded stores, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from postroom.delivery.compose import ContentCompiler
from postroom.ledger.tenants import Tenants
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.tables import Tables
from postroom.services.templates import TemplateService
from tests.fakes.clock import ManualClock


@dataclass(frozen=True, slots=True)
class TemplateHome:
    """The stores of one installation, and services on them."""

    tables: Tables
    objects: Objects
    clock: ManualClock

    def composing(self, public_url: str | None = "https://mail.example") -> ContentCompiler:
        return ContentCompiler(Tenants(self.tables, self.clock), self.objects, public_url=public_url, bounce_domain=None)

    def service(
        self, tables: Tables | None = None, objects: Objects | None = None, public_url: str | None = "https://mail.example"
    ) -> TemplateService:
        return TemplateService(tables or self.tables, objects or self.objects, self.clock, self.composing(public_url))


@contextmanager
def open_templates(root: Path) -> Iterator[TemplateHome]:
    """With the tenants `default`, `acme` and `other`. Closed at the end."""
    clock = ManualClock()
    with closing(open_control(root)) as control, closing(FileObjects(root / "objects", clock)) as objects:
        home = TemplateHome(SqliteTables(control, clock), objects, clock)
        for tenant in ("acme", "other"):
            Tenants(home.tables, clock).create(tenant)
        yield home
