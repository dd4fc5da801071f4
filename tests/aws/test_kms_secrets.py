"""Secrets under KMS: how seldom it is asked, what it is told, master keys that are replaced, and its refusals."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from botocore.stub import Stubber

from postroom.errors import Corrupt, Denied, Invalid, PostroomError, Unavailable, Unsupported
from postroom.platform.aws._clients import AwsAccount
from postroom.platform.aws.secrets import KEPT_S, SEALS, KmsSecrets
from tests.contract.aws_backend import AwsBackend
from tests.fakes.clock import ManualClock

P = "provider/acme/relay"


class Vault(NamedTuple):
    """Secrets under one key, and what KMS was asked."""

    secrets: KmsSecrets
    client: Any
    clock: ManualClock
    asked: list[tuple[str, dict[str, str]]]

    def key(self) -> str:
        return str(self.client.create_key()["KeyMetadata"]["Arn"])


@pytest.fixture
def vault(backend: AwsBackend) -> Iterator[Vault]:
    asked: list[tuple[str, dict[str, str]]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        if "EncryptionContext" in params:
            asked.append((model.name, params["EncryptionContext"]))

    with closing(backend.account.kms()) as client:
        client.meta.events.register("provide-client-params.kms.*", note)
        clock, arn = ManualClock(), str(client.create_key()["KeyMetadata"]["Arn"])
        yield Vault(KmsSecrets(client, [arn], clock), client, clock, asked)


def test_sealing_asks_once_a_class_and_while_a_data_key_may_be_used(vault: Vault) -> None:
    for n in range(SEALS):
        vault.secrets.seal(f"provider/acme/{n}", b"secret")
    assert vault.asked == [("GenerateDataKey", {"purpose": "provider"})]
    vault.secrets.seal(P, b"one more")
    assert len(vault.asked) == 2
    vault.clock.advance(KEPT_S - 1)
    vault.secrets.seal(P, b"secret")
    assert len(vault.asked) == 2
    vault.clock.advance(1)
    vault.secrets.seal(P, b"secret")
    vault.secrets.seal("callback/acme", b"secret")
    assert [context["purpose"] for _, context in vault.asked] == ["provider", "provider", "provider", "callback"]


def test_racing_threads_wait_for_one_data_key_and_use_none_beyond_its_seals(vault: Vault) -> None:
    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(lambda n: vault.secrets.seal(P, str(n).encode()), range(3 * SEALS)))
    uses: dict[str, int] = {}
    for text in sealed:
        uses[text.split(".")[2]] = uses.get(text.split(".")[2], 0) + 1
    assert set(uses.values()) == {SEALS}
    assert len(vault.asked) == 3
    assert [vault.secrets.open(P, text) for text in sealed[::100]] == [str(n).encode() for n in range(3 * SEALS)][::100]


def test_an_unwrapped_key_is_believed_for_a_while(backend: AwsBackend, vault: Vault) -> None:
    sealed, key = vault.secrets.seal(P, b"secret"), vault.secrets.new_key(P)
    vault.secrets.open(P, sealed)
    assert [operation for operation, _ in vault.asked] == ["GenerateDataKey"] * 2, "what was just made is known"
    vault.clock.advance(KEPT_S)
    for _ in range(3):
        assert vault.secrets.open(P, sealed) == b"secret"
        assert vault.secrets.unwrap(P, key.wrapped) == key.plain
    assert vault.asked[2:] == [("Decrypt", {"purpose": "provider"})] * 2
    vault.clock.advance(KEPT_S)
    vault.secrets.open(P, sealed)
    assert len(vault.asked) == 5


def test_no_more_than_some_are_kept(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.platform.aws.secrets._KEPT", 3)
    keys = [vault.secrets.new_key(f"{n}/x") for n in range(5)]
    for n, key in enumerate(keys):
        vault.secrets.unwrap(f"{n}/x", key.wrapped)
        vault.secrets.seal(f"{n}/x", b"")
    assert len(vault.secrets._opened) == 3
    assert len(vault.secrets._sealing) <= 3
    assert vault.secrets.unwrap("0/x", keys[0].wrapped) == keys[0].plain


def test_a_key_of_one_s_own_is_shared_with_no_seal(vault: Vault) -> None:
    sealed, key = vault.secrets.seal(P, b"secret"), vault.secrets.new_key(P)
    assert vault.secrets.seal(P, b"again").split(".")[2] == sealed.split(".")[2] != key.wrapped.split(".")[2]


def test_under_a_new_master_key_older_secrets_open_and_are_told_from_newer_ones(vault: Vault) -> None:
    old, new = next(iter(vault.secrets._keys.values())), vault.key()
    sealed, key = vault.secrets.seal(P, b"secret"), vault.secrets.new_key(P)
    both = KmsSecrets(vault.client, [new, old], vault.clock)
    assert not both.is_current(sealed)
    assert both.open(P, sealed) == b"secret"
    again = both.seal(P, b"secret")
    assert both.is_current(again)
    assert not both.is_current(key.wrapped)
    wrapped = both.rewrap(P, key.wrapped)
    assert both.is_current(wrapped)
    alone = KmsSecrets(vault.client, [new], vault.clock)
    assert alone.unwrap(P, wrapped) == key.plain
    assert alone.open(P, again) == b"secret"
    with pytest.raises(Corrupt, match="not name any more"):
        alone.open(P, sealed)
    with pytest.raises(Corrupt, match="not name any more"):
        alone.unwrap(P, key.wrapped)


def test_a_text_whose_master_key_was_swapped_for_another_of_ours_is_corrupt(vault: Vault) -> None:
    old, new = next(iter(vault.secrets._keys.values())), vault.key()
    both = KmsSecrets(vault.client, [new, old], vault.clock)
    form, _, *rest = vault.secrets.seal(P, b"secret").split(".")
    with pytest.raises(Corrupt):
        both.open(P, ".".join([form, both._newest, *rest]))


def test_without_a_key_there_are_no_secrets(vault: Vault) -> None:
    with pytest.raises(Invalid):
        KmsSecrets(vault.client, [], vault.clock)


@pytest.mark.parametrize(
    ("code", "sealing", "opening"),
    [
        ("AccessDeniedException", Denied, Denied),
        ("NotFoundException", Unsupported, Corrupt),
        ("DisabledException", Unavailable, Unavailable),
        ("KMSInvalidStateException", Unavailable, Unavailable),
        ("ThrottlingException", Unavailable, Unavailable),
        ("KMSInternalException", Unavailable, Unavailable),
        ("InvalidCiphertextException", Unavailable, Corrupt),
        ("IncorrectKeyException", Unavailable, Corrupt),
    ],
)
def test_refusals_of_kms(code: str, sealing: type[PostroomError], opening: type[PostroomError]) -> None:
    client = AwsAccount("us-east-1", "http://127.0.0.1:9", "key", "secret").kms()
    with closing(client), Stubber(client) as stub:
        secrets = KmsSecrets(client, ["arn:key"], ManualClock())
        stub.add_client_error("generate_data_key", code)
        with pytest.raises(sealing):
            secrets.seal(P, b"secret")
        stub.add_client_error("decrypt", code)
        with pytest.raises(opening):
            secrets.open(P, f"s1.{secrets._newest}.AAAA.AAAA")
