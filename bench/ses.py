"""What a call of SES costs, and how fast its notices are read: `python -m bench.ses [--messages N]`.

1. CPU of our process a message, against the simulator in a process of its own; the same with botocore, where it is installed, as
   a ratio. 2. Notices verified (signature version 1 and 2) and read a second, on one core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace

import uvloop
from tests.fakes.ses_simulator import notices
from tests.fakes.ses_simulator.api import Accepted
from tests.fakes.ses_simulator.sns import ARN, Topic

from bench.smtp import CONTENT, DEPTH, BenchDelivery, Run
from postroom.clock import SystemClock
from postroom.events.ses.ses_event import parse_ses_event
from postroom.events.ses.sns import SnsVerifier
from postroom.model.ids import Key
from postroom.model.tokens import MessageRef, ses_tags
from postroom.platform.mail._aws_auth import AwsCredentialChain
from postroom.platform.mail.ses import SesMailer
from postroom.platform.mail.ses_url import SesConfig, parse_ses_url

REF = MessageRef(7, "abcdefgh23456722", 12, Key(b"k" * 12), 3)
BenchDelivery.ref = REF


async def send(config: SesConfig, messages: int) -> tuple[float, float]:
    """Messages a second, and microseconds of CPU a message, of this process."""
    mailer = SesMailer(config, source=AwsCredentialChain(config, {}, SystemClock()))
    await mailer.start()
    run = Run(mailer, messages)  # type: ignore[arg-type] # any mailer does
    began, cpu = time.monotonic(), time.process_time()
    for _ in range(min(DEPTH, messages)):
        run.submit()
    await run.done
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    await mailer.close(1)
    if run.refused:
        raise SystemExit(f"{run.refused} messages were not accepted")
    return messages / took, cpu / messages * 1e6


def botocore_cpu(config: SesConfig, calls: int) -> float | None:
    """Microseconds of CPU a call of the AWS SDK; None: it is not installed."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        return None
    client = boto3.client(
        "sesv2",
        region_name=config.region,
        endpoint_url=config.endpoint,
        aws_access_key_id=config.access_key_id,
        aws_secret_access_key=config.secret_access_key,
        config=Config(retries={"total_max_attempts": 1}),
    )
    tags = [{"Name": name, "Value": value} for name, value in ses_tags(REF)]

    def call() -> None:
        client.send_email(
            FromEmailAddress="a@example.com",
            Destination={"ToAddresses": ["r@example.net"]},
            ConfigurationSetName="postroom",
            EmailTags=tags,
            Content={"Raw": {"Data": CONTENT}},
        )

    call()
    cpu = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - cpu) / calls * 1e6


def read_rate(version: str, seconds: float = 1.0) -> float:
    """Notices a second."""
    topic = Topic(version=version)
    message = Accepted("0102-id", "r@example.net", "a@example.com", "postroom", dict(ses_tags(REF)), CONTENT, 1, time.time())
    body = json.dumps(topic.notification(notices.bounce(message, time.time()))).encode()
    verifier = SnsVerifier([ARN], lambda _: topic.pem, SystemClock())
    began, count = time.process_time(), 0
    while time.process_time() - began < seconds:
        assert parse_ses_event(verifier.verify(body).message)
        count += 1
    return count / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5_000)
    messages = parser.parse_args().messages
    costs: dict[str, float] = {}
    command = [sys.executable, "-m", "tests.fakes.ses_simulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
        try:
            assert simulator.stdout is not None
            config = replace(parse_ses_url(simulator.stdout.readline().partition("=")[2].strip().strip("'")), connections=16)
            for name, runner in (("uvloop", uvloop.run), ("asyncio", asyncio.run)):
                rate, cpu = runner(send(config, messages))
                print(f"SesMailer on {name:8} {rate:8,.0f} messages/s, {cpu:6.0f} µs of CPU a message")
                costs[name] = cpu
            theirs = botocore_cpu(config, max(100, messages // 10))
            if theirs is not None:
                ratio = theirs / costs["uvloop"]
                print(f"boto3, one call at a time            {theirs:6.0f} µs of CPU a message, ratio {ratio:.1f}")
        finally:
            simulator.terminate()
    for version in ("1", "2"):
        print(f"notices, signature version {version}  {read_rate(version):8,.0f} verified and read a second on one core")


if __name__ == "__main__":
    main()
