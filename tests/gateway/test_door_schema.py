"""The whole door against its own OpenAPI document: schemathesis calls it with whatever the document allows and with what it does
not, by an operator, and holds every answer against it. All checks; `door.toml` has the exceptions and their reasons.

Longer, by hand: `POSTROOM_SCHEMA_EXAMPLES=500 pytest tests/gateway/test_door_schema.py`, and another `POSTROOM_SCHEMA_SEED`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from fastapi import FastAPI

from postroom.entrypoints.application import all_routers, gateway_config
from postroom.gateway.access import Authenticator
from postroom.gateway.app import create_app
from postroom.gateway.routes.campaign_status import StatusCache
from postroom.model.access import Principal
from tests.gateway.door_kit import OPERATOR, URL, WholeDoor, household, whole_door
from tests.gateway.server_kit import served

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "gateway" / "door.toml"
EXAMPLES = os.environ.get("POSTROOM_SCHEMA_EXAMPLES", "10")
SEED = os.environ.get("POSTROOM_SCHEMA_SEED", "1")
HALF = 0.5
"""Of the ids in paths are ids of records that are there."""


def test_the_door_keeps_to_its_document(tmp_path: Path) -> None:
    with whole_door(tmp_path / "data") as door, served(lambda _: lasting(door)) as url:
        config = tmp_path / "door.toml"
        config.write_text(CONFIG.read_text("utf-8") + known_ids(door), "utf-8")
        run = called(tmp_path, config, url=url, token=door.token(OPERATOR, "default"))
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    assert f"Tested: {len(operations(door))}" in run.stdout


class Remembering:
    """The door's own authenticator, but that it keeps whom it has once believed: a run may remove its own caller, or take longer
    than a token lasts, and would be told no more than 401 and 403 from then on."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._known: dict[str | None, Principal] = {}

    async def authenticate(self, authorization: str | None) -> Principal:
        if authorization not in self._known:
            self._known[authorization] = await self._authenticator.authenticate(authorization)
        return self._known[authorization]


def lasting(door: WholeDoor) -> FastAPI:
    """The door, which remembers, and at which nobody waits for a change."""
    around, board = gateway_config(door.postroom), StatusCache(door.postroom.status, door.postroom.clock)
    board.close()
    return create_app(replace(around, authenticator=Remembering(around.authenticator)), all_routers(door.postroom, board))


def called(cwd: Path, config: Path, *, url: str, token: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: its hooks and formats are global. It remembers nothing of earlier runs."""
    words = f"--config-file {config} run {url}/openapi.json --url {url} --seed {SEED} --max-examples {EXAMPLES} --workers 2"
    words += " --warnings off --no-color --continue-on-failure --generation-database none --request-timeout 60"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "schemathesis.cli", *words.split(), "--header", f"Authorization: Bearer {token}"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=3_000,
        check=False,
    )


def known_ids(door: WholeDoor) -> str:
    """For the configuration: what half of the calls are about. Several of each, since some calls take them away."""
    homes = [household(door, "default", f"w{number}") for number in range(4)]
    ids = {
        "path.template_id": [home.template for home in homes],
        "path.upload_id": [each for home in homes for each in (home.upload, home.asset)],
        "path.campaign_id": [home.campaign for home in homes],
        "path.message_id": [home.campaign_message for home in homes],
    }
    return "".join(bound(number, name, values) for number, (name, values) in enumerate(ids.items()))


def bound(number: int, parameter: str, values: list[str]) -> str:
    return (
        f"\n[dictionaries.known{number}]\nvalues = {orjson.dumps(values).decode()}\n"
        f'\n[parameters."{parameter}"]\ndictionary = "known{number}"\nprobability = {HALF}\n'
    )


def operations(door: WholeDoor) -> dict[str, Mapping[str, object]]:
    """By id."""
    paths = door.app.openapi()["paths"]
    return {operation["operationId"]: operation for methods in paths.values() for operation in methods.values()}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Mapping[str, object]]:
    with whole_door(tmp_path_factory.mktemp("described")) as door:
        return operations(door)


def test_exceptions_are_of_operations_that_there_are(described: dict[str, Mapping[str, object]]) -> None:
    """One for which there is no operation any more would hide the next of that name."""
    config = tomllib.loads(CONFIG.read_text("utf-8"))
    excepted = [name for each in config["operations"] for name in each["include-operation-id"]]
    assert set(excepted) <= described.keys()


def test_the_document_is_of_this_door(tmp_path: Path) -> None:
    with whole_door(tmp_path) as door:
        assert door.app.openapi()["servers"] == [{"url": URL}]
