"""The promise of `ports.journal`, on every backend: an exact answer, or none. What proves it on one machine: test_journal_on_disk."""

from __future__ import annotations

import pytest

from postroom.clock import Instant
from postroom.model.ids import Key
from postroom.model.message import MessageStatus, Settlement
from postroom.platform.ports.journal import Handed, Journals, Trace
from tests.contract.backend import Backend

A, B = (Key(letter * 12) for letter in (b"a", b"b"))
SENT = Settlement(B, MessageStatus.SENT, 1, Instant(5), None, 250, "2.0.0 Ok: queued as ü", "id-1")


@pytest.fixture
def journals(backend: Backend) -> Journals:
    return backend.journals()


def test_every_worker_has_a_name_of_its_own(backend: Backend, journals: Journals) -> None:
    workers = [each.begin("campaign") for each in (journals, journals, backend.journals())]
    assert len({worker.owner for worker in workers}) == 3
    assert all(1 <= len(worker.owner) <= 100 for worker in workers)
    for worker in workers:
        worker.close()


def test_a_living_worker_s_page_is_never_finished(journals: Journals) -> None:
    """In doubt it is lost; in no case it proves what was not handed over."""
    worker = journals.begin("campaign")
    page = worker.page(3, 7)
    page.handing(A)
    assert journals.read("campaign", worker.owner, 3, 7) in (Trace.ALIVE, Trace.LOST)
    assert worker.owner not in journals.dead("campaign")
    worker.close()


def test_a_sealed_page_is_exact_or_lost(backend: Backend, journals: Journals) -> None:
    worker = journals.begin("campaign")
    page = worker.page(3, 7)
    page.handing(A)
    page.handing(B)
    page.answered(SENT)
    page.seal()
    assert backend.journals().read("campaign", worker.owner, 3, 7) in (Handed(frozenset({A}), {B: SENT}), Trace.LOST)
    worker.close()


def test_a_page_that_is_not_there_is_lost(journals: Journals) -> None:
    worker = journals.begin("campaign")
    worker.page(3, 7).seal()
    worker.close()
    for campaign, owner, batch, fence in (
        ("campaign", "nobody", 3, 7),
        ("other", worker.owner, 3, 7),
        ("campaign", worker.owner, 4, 7),
        ("campaign", worker.owner, 3, 8),
    ):
        assert journals.read(campaign, owner, batch, fence) is Trace.LOST


def test_forgetting_and_dropping_what_is_not_there_is_harmless(journals: Journals) -> None:
    worker = journals.begin("campaign")
    worker.page(0, 1).close()
    worker.close()
    for _ in range(2):
        journals.forget("campaign", worker.owner)
        journals.drop("campaign")
    assert journals.dead("campaign") == []
