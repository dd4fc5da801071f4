"""What a function tells of itself: a line and its metrics a call, and nothing that came in or went out."""

from __future__ import annotations

import json
import subprocess
import sys

from postroom.entrypoints.lambdas.runtime import stage_of

_PROGRAM = """
import logging
from types import SimpleNamespace
from postroom.entrypoints.lambdas.runtime import count, observed

class Answer(Exception): pass

@observed("events", answers=(Answer,))
def handler(event, context):
    logging.getLogger("postroom.somewhere").warning("odd")
    logging.getLogger("mangum.http").info("GET /t/o/secret 200")
    count("Heard", 2)
    if event == "secret": return "secret"
    raise Answer if event == "answer" else ValueError("broken")

for event in ("secret", "answer", "error"):
    try: handler(event, SimpleNamespace(aws_request_id=event[0], function_name="postroom-test-events"))
    except (Answer, ValueError): pass
"""


def test_each_call_leaves_lines_and_metrics_and_no_content() -> None:
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROGRAM],
        env={"AWS_LAMBDA_FUNCTION_NAME": "postroom-test-events", "POWERTOOLS_TRACE_DISABLED": "true"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    logged = [line for line in lines if "level" in line]
    metrics = [line for line in lines if "_aws" in line]
    assert "secret" not in told.stdout + told.stderr
    assert {(line["service"], line["stage"]) for line in lines} == {("events", "test")}
    assert [line["function_request_id"] for line in logged if line["message"].startswith("function.called ")] == ["s", "a", "e"]
    assert [line.get("ColdStart") for line in metrics] == [[1], [0], [0]]
    assert ["Errors" in line for line in metrics] == [False, False, True]
    assert all(line["Heard"] == [2] for line in metrics)


def test_the_stage_stands_in_the_functions_name() -> None:
    assert stage_of("template-api", "postroom-prod-template-api") == "prod"
    assert stage_of("events", "something") == "something"
