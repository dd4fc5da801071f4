"""A secret that people put into Secrets Manager for the stack to read."""

from __future__ import annotations

from postroom.errors import NotFound
from postroom.platform.aws._clients import Account
from postroom.platform.aws._errors import speaking


def secret_text(account: Account, name: str) -> str:
    """By name or ARN. `NotFound`, `Denied`, `Unavailable`."""
    with speaking(f"reading the secret {name}"):
        client = account.secretsmanager()
        answer = client.get_secret_value(SecretId=name)
        client.close()
    text = str(answer.get("SecretString", "")).strip()
    if not text:
        raise NotFound(f"the secret {name} holds no text")
    return text
