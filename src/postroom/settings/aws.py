"""What AWS's own tools read on this machine as well: the variables that are handed to its clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

AWS_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SESV2",
        "AWS_ENDPOINT_URL_SNS",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_PROFILE",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
        "HOME",
    }
)


@dataclass(frozen=True, slots=True)
class AwsEnvironment:
    """What AWS's own tools read on this machine as well: whose account it is, and where its services are."""

    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False, repr=False)
    """Those of `AWS_VARIABLES` that are set; some are secret."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Of the whole environment."""
        return cls(MappingProxyType({name: environ[name] for name in sorted(AWS_VARIABLES & environ.keys())}))
