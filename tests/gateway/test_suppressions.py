"""The suppression list over HTTP: each tenant its own, any spelling, files in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from postroom.gateway.routes.recipients import MAX_FILE, suppression_routes
from postroom.gateway.schemas.recipients import MAX_REJECTED
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import ItemKey, Put
from postroom.services.suppression import SuppressionLists
from tests.fakes.clock import ManualClock
from tests.gateway.kit import client_of, problem

PATH = "/v1/suppressions"
Knock = Callable[..., TestClient]


@pytest.fixture
def knock(tmp_path: Path) -> Iterator[Knock]:
    """Somebody at the door: of a role, and of one of two tenants."""
    clock = ManualClock()
    with ExitStack() as stack:
        tables = SqliteTables(stack.enter_context(closing(open_control(tmp_path))), clock)
        tables.write([Put(ItemKey("#tenants", "other"), {"number": 1, "secret": "00" * 32})])
        lists = SuppressionLists(SuppressionList(tables, clock), Tenants(tables, clock), clock)

        def client(role: str = "admin", tenant: str = "default") -> TestClient:
            return stack.enter_context(client_of([suppression_routes(lists)], role, tenant))

        yield client


def upload(client: TestClient, content: bytes, media: str = "text/csv", query: str = "") -> object:
    answer = client.post(f"{PATH}/import{query}", content=content, headers={"Content-Type": media})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_address_is_entered_once_found_in_any_spelling_and_removed(knock: Knock) -> None:
    admin = knock()
    body = {"address": "Anna <Anna@Mail.Example>", "reason": "unsubscribe", "note": "asked by phone"}
    added = admin.post(PATH, json=body)
    assert (added.status_code, added.json()["address"]) == (201, "Anna@mail.example")
    assert admin.post(PATH, json={"address": "anna@mail.example"}).status_code == 200
    (found,) = admin.get(PATH, params={"address": " ANNA@mail.example "}).json()["items"]
    assert (found["reason"], found["note"], found["added_at"]) == ("unsubscribe", "asked by phone", "2026-09-21T14:13:20.000Z")
    assert admin.delete(PATH, params={"address": "ANNA@MAIL.example"}).status_code == 204
    problem(admin.delete(PATH, params={"address": "anna@mail.example"}), 404)
    assert admin.get(PATH).json() == {"items": [], "cursor": None}


def test_each_tenant_has_a_list_of_its_own(knock: Knock) -> None:
    mine, theirs = knock(), knock(tenant="other")
    mine.post(PATH, json={"address": "anna@mail.example"})
    assert theirs.get(PATH).json()["items"] == []
    assert theirs.get(PATH, params={"address": "anna@mail.example"}).json()["items"] == []
    problem(theirs.delete(PATH, params={"address": "anna@mail.example"}), 404)
    assert len(mine.get(PATH).json()["items"]) == 1


def test_who_may_do_what(knock: Knock) -> None:
    viewer, sender = knock("viewer"), knock("sender")
    problem(viewer.post(PATH, json={"address": "anna@mail.example"}), 403)
    problem(viewer.post(f"{PATH}/import", content=b"", headers={"Content-Type": "text/csv"}), 403)
    assert sender.post(PATH, json={"address": "anna@mail.example"}).status_code == 201
    problem(sender.delete(PATH, params={"address": "anna@mail.example"}), 403)
    assert len(viewer.get(PATH).json()["items"]) == 1


@pytest.mark.parametrize(
    "body", [{}, {"address": ""}, {"address": "nobody"}, {"address": "a@b.example", "reason": "boredom"}, {"address": 1}]
)
def test_what_is_no_entry_is_refused(knock: Knock, body: dict[str, object]) -> None:
    problem(knock().post(PATH, json=body), 422)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_no_address_is_not_looked_for(knock: Knock, method: str) -> None:
    problem(knock().request(method, PATH, params={"address": "nobody"}), 422)


def test_a_file_is_entered_and_its_bad_rows_are_told(knock: Knock) -> None:
    admin = knock()
    content = b"E-Mail,reason\none@a.example,bounce\nnonsense,\ntwo@a.example,\n"
    assert upload(admin, content, "text/csv; charset=utf-8", "?reason=complaint") == {
        "rows": 3,
        "added": 2,
        "already": 0,
        "rejected": 1,
        "problems": [{"line": 3, "address": "nonsense", "reason": "“nonsense” has no @."}],
    }
    reasons = {entry["address"]: entry["reason"] for entry in admin.get(PATH).json()["items"]}
    assert reasons == {"one@a.example": "bounce", "two@a.example": "complaint"}


def test_of_many_bad_rows_the_first_are_told_and_all_are_counted(knock: Knock) -> None:
    done = knock().post(f"{PATH}/import", content=b"address\n" + b"x\n" * 1_500, headers={"Content-Type": "text/csv"}).json()
    assert (done["rows"], done["rejected"], done["already"], len(done["problems"])) == (1_500, 1_500, 0, MAX_REJECTED)


def test_what_is_exported_can_be_imported(knock: Knock) -> None:
    mine, theirs = knock(), knock(tenant="other")
    mine.post(PATH, json={"address": "anna@mail.example", "reason": "bounce"})
    mine.post(PATH, json={"address": "+tag@a.example", "note": "=1+1"})
    exported = mine.get(f"{PATH}/export.csv")
    assert exported.headers["content-disposition"] == 'attachment; filename="suppressions.csv"'
    upload(theirs, exported.content)
    assert sorted(theirs.get(f"{PATH}/export.csv").text.splitlines()) == sorted(exported.text.splitlines())


def test_a_file_of_another_kind_or_size_is_refused(knock: Knock) -> None:
    admin = knock()
    problem(admin.post(f"{PATH}/import", json={"address": "a@a.example"}), 415)
    problem(admin.post(f"{PATH}/import", content=b"a@a.example"), 415)
    csv = {"Content-Type": "text/csv"}
    problem(admin.post(f"{PATH}/import", content=b"a@a.example\n\xff\n", headers=csv), 422)
    problem(admin.post(f"{PATH}/import", content=b"\n" * (MAX_FILE + 1), headers=csv), 413)
    assert admin.post(f"{PATH}/import", content=b"\n" * MAX_FILE, headers=csv).status_code == 200


def test_the_list_comes_in_pages(knock: Knock) -> None:
    admin = knock()
    upload(admin, b"".join(b"p%d@a.example\n" % number for number in range(25)))
    first = admin.get(PATH, params={"limit": 20}).json()
    rest = admin.get(PATH, params={"limit": 20, "cursor": first["cursor"]}).json()
    assert {entry["address"] for entry in (*first["items"], *rest["items"])} == {f"p{n}@a.example" for n in range(25)}
    assert rest["cursor"] is None
    problem(admin.get(PATH, params={"cursor": "x"}), 422)


def test_an_entry_says_when_it_ends_and_what_it_came_from(knock: Knock) -> None:
    admin = knock()
    file = (
        "address,reason,expires_at,source\n"
        "anna@mail.example,bounce,2026-10-01T00:00:00Z,m1/dsn-1\n"
        "bert@mail.example,bounce,2026-09-01T00:00:00Z,m2/dsn-2\n"
        "cleo@mail.example,bounce,soon,\n"
    )
    done = upload(admin, file.encode())
    assert isinstance(done, dict)
    assert (done["added"], done["already"], done["rejected"]) == (1, 1, 1)
    (entry,) = admin.get(PATH).json()["items"]
    assert (entry["expires_at"], entry["source"]) == ("2026-10-01T00:00:00.000Z", "m1/dsn-1")
    exported = admin.get(f"{PATH}/export.csv").content
    assert exported.decode().splitlines()[1].endswith(",,2026-10-01T00:00:00.000Z,m1/dsn-1")
    admin.delete(PATH, params={"address": "anna@mail.example"})
    upload(admin, exported)
    assert admin.get(PATH).json()["items"] == [entry]
    added = admin.post(PATH, json={"address": "anna@mail.example"}).json()
    assert (added["expires_at"], added["source"]) == (None, "")  # what lasts replaces what would have ended
