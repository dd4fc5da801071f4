"""An alarm that rings opens one incident, and its end closes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from postroom.entrypoints.lambdas import alarms
from postroom.errors import Denied, Unavailable
from postroom.events.alarms import pagerduty_event, parse_alarm
from postroom.wiring.aws import Pager
from tests.lambdas.kit import Context, installed

ARN = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:postroom-prod-StuckCampaigns"


def alarm(state: str = "ALARM", **fields: Any) -> str:
    """As CloudWatch's message has it, in part."""
    return json.dumps(
        {
            "AlarmName": "postroom-prod-StuckCampaigns",
            "AlarmDescription": "a campaign is sending and does not move",
            "AWSAccountId": "123456789012",
            "NewStateValue": state,
            "NewStateReason": "Threshold Crossed: 1 datapoint [1.0] was greater than the threshold (0.0).",
            "StateChangeTime": "2026-11-24T16:00:00.000+0000",
            "OldStateValue": "OK",
            "AlarmArn": ARN,
            **fields,
        }
    )


class PagerDuty:
    """Takes events."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.status = 202
        self.url = ""


@contextmanager
def listening() -> Iterator[PagerDuty]:
    duty = PagerDuty()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            duty.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(duty.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        duty.url = f"http://127.0.0.1:{server.server_port}/v2/enqueue"
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield duty
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def duty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PagerDuty]:
    with installed(tmp_path, monkeypatch, alarms), listening() as duty:
        monkeypatch.setattr(alarms, "pager", lambda _: Pager("R" * 32, duty.url, ("127.0.0.0/8",)))
        yield duty


def call(*messages: str) -> None:
    alarms.handler({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": each}} for each in messages]}, Context())


def test_an_incident_is_opened_and_closed_by_the_same_key(duty: PagerDuty) -> None:
    call(alarm())
    call(alarm("OK"), alarm("INSUFFICIENT_DATA"))
    opened, closed = duty.told
    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"] == ARN
    assert opened["payload"]["summary"] == "postroom-prod-StuckCampaigns: a campaign is sending and does not move"
    assert opened["payload"]["severity"] == "critical"
    assert opened["payload"]["custom_details"]["handbook"].startswith("docs/how-to/")


@pytest.mark.parametrize(("status", "error"), [(429, Unavailable), (500, Unavailable), (400, Denied)])
def test_a_call_that_pagerduty_does_not_take_fails_so_that_it_is_made_again(
    duty: PagerDuty, status: int, error: type[Exception]
) -> None:
    duty.status = status
    with pytest.raises(error):
        call(alarm())


def test_what_is_no_alarm_is_logged_alone(duty: PagerDuty, caplog: pytest.LogCaptureFixture) -> None:
    call("Confirmed", "[]", alarm("SOMETHING"))
    assert duty.told == []
    assert len(caplog.records) == 3


def test_without_a_key_an_alarm_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with installed(tmp_path, monkeypatch, alarms):
        call(alarm())
    assert "a campaign is sending and does not move" in caplog.text


def test_a_long_text_fits_what_pagerduty_takes() -> None:
    told = pagerduty_event(parse_alarm(alarm(AlarmDescription="x" * 5_000)), "key")
    assert told is not None
    assert len(told["payload"]["summary"]) == 1_024
