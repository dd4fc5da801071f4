"""Where what could not be handled waits for a person: as long as SQS keeps anything."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.names import Names

_KEPT = Duration.days(14)


def dead_letters(scope: Construct, id_: str, names: Names, name: str) -> sqs.Queue:
    """The queue of dead letters of that name."""
    return sqs.Queue(
        scope,
        id_,
        queue_name=names.dead_queue(name),
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
        retention_period=_KEPT,
    )
