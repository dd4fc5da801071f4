"""Tenants are isolated: every route, called by another tenant's people of every role about ids that are there, answers as it does
about ids that nobody has, byte for byte; no list holds another's records; and nothing that others do changes anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient

from tests.gateway.door_kit import OPERATOR, RANKS, Household, WholeDoor, household, letter, made, whole_door
from tests.gateway.door_recipes import RECIPES, SAME_ID, Recipe, call, routes

_UNSTEADY = {"ratelimit", "ratelimit-policy", "date"}
_OTHERS = str.maketrans("abcdefghijklm234nopqrstuvwxyz567", "nopqrstuvwxyz567abcdefghijklm234")
_REFUSED = {403, 404, 422}
"""403: the role, or a sender that is not the caller's; 422: of an upload row by who may not see rows."""


@dataclass(frozen=True)
class Street:
    """Two tenants behind one door."""

    door: WholeDoor
    theirs: Household
    others: Household
    """Also theirs, so that each list of theirs has a second page."""
    ours: Household
    nobody: Household
    """Ids as they might be, and are not."""


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with whole_door(tmp_path_factory.mktemp("street")) as door:
        for tenant in ("quagga", "okapi"):
            door.postroom.tenants.create(tenant)
        theirs = household(door, "quagga", "zebra")
        yield Street(door, theirs, household(door, "quagga", "zorro"), household(door, "okapi", "panda"), unknown(theirs))


def unknown(home: Household) -> Household:
    """Of the same shapes: the last letters of every id are others, and so is the word."""
    ids = {name: value[:-3] + value[-3:].translate(_OTHERS) for name, value in asdict(home).items()}
    words = {name: getattr(home, name).replace(home.word, "yucca") for name in ("sender", "provider", "suppressed", "subject")}
    return replace(home, **ids | words | {"tenant": "jackal", "word": "yucca"})


def test_every_route_has_a_recipe_and_every_recipe_a_route(street: Street) -> None:
    assert {f"{method} {path}" for method, path in routes(street.door)} == RECIPES.keys()


def test_ids_that_nobody_has_are_others_than_those_that_are_there(street: Street) -> None:
    theirs, nobody = asdict(street.theirs), asdict(street.nobody)
    assert {name: len(value) for name, value in theirs.items()} == {name: len(value) for name, value in nobody.items()}
    assert set(theirs.values()).isdisjoint(nobody.values())


@pytest.mark.parametrize("rank", RANKS)
def test_to_others_a_record_is_not_there(street: Street, rank: str) -> None:
    """Every route, by who has this role in another tenant."""
    with street.door.client(rank, street.ours.tenant) as us:
        for route, recipes in RECIPES.items():
            for recipe in recipes:
                if not (recipe.operators_may and rank == OPERATOR):
                    walk(street, us, route, recipe)


def walk(street: Street, us: TestClient, route: str, recipe: Recipe) -> None:
    theirs = call(us, route, recipe, about=street.theirs, own=street.ours)
    shows_nothing(theirs, street.theirs)
    if recipe.names_nobody:
        return
    nobodys = call(us, route, recipe, about=street.nobody, own=street.ours)
    assert shape(theirs, street.theirs) == shape(nobodys, street.nobody), route
    assert theirs.status_code in _REFUSED or is_empty(theirs), f"{route}: {theirs.status_code} {theirs.text}"


def shape(response: httpx.Response, about: Household) -> tuple[int, Mapping[str, str], str]:
    """An answer, but for whom it was asked about."""
    fields = {name: value for name, value in response.headers.items() if name not in _UNSTEADY}
    return response.status_code, fields, without(response.text, about)


def without(text: str, about: Household) -> str:
    """The longest first: an id may be part of another."""
    for name, value in sorted(asdict(about).items(), key=lambda each: -len(each[1])):
        text = text.replace(value, f"<{name}>")
    return text


def shows_nothing(response: httpx.Response, theirs: Household) -> None:
    """None of their values, but those that the caller named."""
    asked = str(response.request.url) + response.request.read().decode()
    shown = [value for name, value in asdict(theirs).items() if value in response.text and value not in asked]
    assert response.headers["x-request-id"] == SAME_ID["X-Request-Id"]
    assert set(shown) <= {theirs.tenant}, f"{response.request.url} shows {shown}"


def is_empty(response: httpx.Response) -> bool:
    """A list without an item, or results that were all refused."""
    said = response.json()
    refused = {each.get("status") for each in said.get("results", ())} == {"refused"}
    return said.get("items") == [] or refused


def test_only_operators_see_other_tenants(street: Street) -> None:
    """The one thing that the walk lets pass."""
    for rank in RANKS:
        with street.door.client(rank, street.ours.tenant) as us:
            assert us.get(f"/v1/tenants/{street.theirs.tenant}").status_code == (200 if rank == OPERATOR else 403)
            assert (street.theirs.tenant in us.get("/v1/tenants").text) == (rank == OPERATOR)


def reading(path: str) -> list[tuple[str, Recipe]]:
    """Every GET whose path fits."""
    return [(route, each) for route, every in RECIPES.items() for each in every if re.match(rf"GET {path}", route)]


def test_what_others_do_changes_nothing(street: Street) -> None:
    """Their records before and after a walk of somebody who may do everything elsewhere."""
    with street.door.client(OPERATOR, street.theirs.tenant) as them:

        def everything() -> dict[str, str]:
            asked = [(route, each) for route, each in reading("/v1/") if "/content" not in route]
            return {
                f"{route} {each}": call(them, route, each, about=street.theirs, own=street.theirs).text for route, each in asked
            }

        before = everything()
        test_to_others_a_record_is_not_there(street, "admin")
        after = everything()
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


PAGED = {
    "/v1/templates",
    "/v1/uploads",
    "/v1/campaigns",
    "/v1/messages",
    "/v1/suppressions",
    "/v1/senders",
    "/v1/users",
    "/v1/keys",
    "/v1/audit",
    "/v1/callbacks/{callback}/deliveries",
    "/v1/templates/{template}/versions",
    "/v1/campaigns/{campaign}/messages",
}


@pytest.mark.parametrize("path", sorted(PAGED))
def test_a_cursor_of_others_leads_to_ones_own(street: Street, path: str) -> None:
    """A cursor is a place, not a right."""
    with street.door.client(OPERATOR, street.theirs.tenant) as them, street.door.client(OPERATOR, street.ours.tenant) as us:
        cursor = made(them.get(path.format(**asdict(street.theirs)), params={"limit": 1}))["cursor"]
        assert cursor is not None, "a list with a second page"
        answer = us.get(path.format(**asdict(street.ours)), params={"cursor": cursor}, headers=SAME_ID)
        assert answer.status_code in {200, 422}
        for home in (street.theirs, street.others):
            shows_nothing(answer, home)


def test_a_status_is_waited_for_by_its_own_tenant_only(street: Street) -> None:
    """Neither knowing its tag nor waiting tells whether there is one."""
    path = f"/v1/campaigns/{street.theirs.campaign}/status"
    with street.door.client("admin", street.theirs.tenant) as them, street.door.client("admin", street.ours.tenant) as us:
        tag = them.get(path).headers["ETag"]
        assert them.get(path, headers={"If-None-Match": tag}).status_code == 304
        for words in ("", "?wait=20"):
            answer = us.get(path + words, headers={"If-None-Match": tag, **SAME_ID})
            assert answer.status_code == 404
            assert "ETag" not in answer.headers


def test_an_etag_of_others_opens_nothing(street: Street) -> None:
    with street.door.client("admin", street.theirs.tenant) as them, street.door.client("admin", street.ours.tenant) as us:
        for path in (f"/v1/templates/{street.theirs.template}", f"/v1/campaigns/{street.theirs.campaign}"):
            tag = them.get(path).headers["ETag"]
            for wanted in (tag, "*"):
                assert us.get(path, headers={"If-None-Match": wanted}).status_code == 404


def test_an_idempotency_key_is_a_tenants_own(street: Street) -> None:
    """The same key with the same content, by two tenants: two records, and no answer of one for the other."""
    key = {"Idempotency-Key": "the same for both"}
    with street.door.client("admin", street.theirs.tenant) as them, street.door.client("admin", street.ours.tenant) as us:
        first = them.post("/v1/templates", json=letter("shared"), headers=key)
        second = us.post("/v1/templates", json=letter("shared"), headers=key)
        assert made(first)["id"] != made(second)["id"]
        assert "Idempotent-Replayed" not in second.headers


def test_a_signed_url_is_all_that_it_takes(street: Street) -> None:
    """It is a capability: whoever has it downloads that one object, with no credentials at all. Nobody else is given one."""
    path = f"/v1/uploads/{street.theirs.upload}/content"
    with street.door.client("editor", street.theirs.tenant) as them, street.door.bearing(None) as anybody:
        url = them.get(path).headers["Location"]
        assert street.theirs.word in anybody.get(url).text
    with street.door.client("admin", street.ours.tenant) as us:
        assert us.get(path).status_code == 404


def test_who_belongs_to_a_tenant_is_told_to_nobody_but_that_they_belong_to_one(street: Street) -> None:
    """One subject, one tenant: the answer says that it is taken, never by whom."""
    body = {"subject": street.theirs.subject, "role": "viewer", "name": "x"}
    with street.door.client("admin", street.ours.tenant) as us:
        answer = us.post("/v1/users", json=body, headers=SAME_ID)
    assert answer.status_code == 409
    shows_nothing(answer, street.theirs)
    assert street.theirs.tenant not in answer.text
