"""What the first caller of a function on AWS waits for: CPU from the start of its process until its first answer, and that as a
ratio to `import boto3` in a process of its own, which any function that uses AWS pays.

    python -m bench.cold_start

Each runs in processes of its own, with settings as on AWS and no AWS behind them: the call is answered before any is asked. Of
the functions that serve no calls only the import is measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

RUNS = 3
MOST_S = 1.5
"""Of CPU, for a function of the API."""
_ACCOUNT = "us-east-1:123456789012"
ENVIRONMENT = {
    "AWS_LAMBDA_FUNCTION_NAME": "postroom-bench-function",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_EC2_METADATA_DISABLED": "true",
    "POWERTOOLS_TRACE_DISABLED": "true",
    "POSTROOM_PLATFORM": "aws",
    "POSTROOM_AWS_TABLE": "postroom-bench",
    "POSTROOM_AWS_BUCKET": "postroom-bench",
    "POSTROOM_AWS_QUEUES": f"arn:aws:sqs:{_ACCOUNT}:postroom-bench-",
    "POSTROOM_AWS_KEY": f"arn:aws:kms:{_ACCOUNT}:key/1",
    "POSTROOM_AWS_MACHINES": f"arn:aws:states:{_ACCOUNT}:stateMachine:postroom-bench-",
    "POSTROOM_AWS_SCHEDULES": "postroom-bench",
    "POSTROOM_AWS_SCHEDULE_ROLE": "arn:aws:iam::123456789012:role/postroom-bench",
    "POSTROOM_AWS_USER_POOL": "us-east-1_bench",
    "POSTROOM_ISSUER": "https://issuer.example/pool",
    "POSTROOM_AUDIENCE": "console",
    "POSTROOM_MAIL": "ses://us-east-1",
    "POSTROOM_API_URL": "https://api.example",
}
_PROGRAM = """
import importlib, json, sys, time
from types import SimpleNamespace
module, function, event = json.loads(sys.argv[1])
handler = getattr(importlib.import_module(module), function)
status = None
if event is not None:
    try:
        status = handler(event, SimpleNamespace(aws_request_id="1", function_name="postroom-bench-function")).get("statusCode")
    except Exception as error:
        status = str(error)
print(json.dumps([time.process_time(), status, sorted(sys.modules)]))
"""
_BOTO3 = "import boto3, time, json; print(json.dumps([time.process_time(), None, []]))"


class Function(NamedTuple):
    """A handler, and its first event; None: it is imported only."""

    name: str
    handler: str
    event: Mapping[str, object] | None


class Start(NamedTuple):
    """What was seen of one."""

    cpu_s: float
    answer: object
    modules: frozenset[str]


def _call(path: str) -> dict[str, object]:
    fields = {"Authorization": ["Bearer nothing"]}
    request = {"identity": {"sourceIp": "203.0.113.9"}}
    return {"httpMethod": "GET", "path": path, "multiValueHeaders": fields, "requestContext": request, "body": None}


_ASKED = {"authorizationToken": "Bearer nothing", "methodArn": f"arn:aws:execute-api:{_ACCOUNT}:api/bench/GET/v1/templates"}
FUNCTIONS = (
    Function("template-api", "api.templates", _call("/v1/templates")),
    Function("upload-api", "api.uploads", _call("/v1/uploads")),
    Function("email-api", "api.email", _call("/v1/campaigns")),
    Function("status-api", "api.status", _call("/v1/campaigns/aaaaaaaaaaaaaaaa/status")),
    Function("callback-api", "api.callbacks", _call("/v1/callbacks")),
    Function("access-api", "api.access", _call("/v1/keys")),
    Function("tracking", "api.tracking", _call("/t/o/nothing")),
    Function("authorizer", "authorizer.handler", _ASKED),
    Function("events", "events.handler", None),
    Function("scheduler", "maintenance.schedule", None),
    Function("maintenance", "maintenance.run_jobs", None),
    Function("callbacks-sender", "streams.send_callbacks", None),
    Function("indexer", "streams.index_messages", None),
    Function("alarms", "alarms.handler", None),
    Function("import-range", "import_steps.range_", None),
)


def started(function: Function) -> Start:
    """Once, in a process of its own."""
    module, _, name = function.handler.rpartition(".")
    asked = json.dumps([f"postroom.entrypoints.lambdas.{module}", name, function.event])
    return _run(_PROGRAM, asked)


def _run(program: str, *arguments: str) -> Start:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "AWS_"))}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=kept | ENVIRONMENT, capture_output=True, text=True, check=True
    )
    cpu_s, answer, modules = json.loads(done.stdout.splitlines()[-1])
    return Start(cpu_s, answer, frozenset(modules))


def main() -> None:
    """Print the table."""
    boto3 = statistics.median(_run(_BOTO3).cpu_s for _ in range(RUNS))
    print(f"import boto3: {boto3:.2f} s of CPU, the interpreter's own start included\n")
    for function in FUNCTIONS:
        starts = [started(function) for _ in range(RUNS)]
        cpu_s = statistics.median(start.cpu_s for start in starts)
        what = "imported" if function.event is None else f"answered {starts[0].answer}"
        print(
            f"{function.name:18} {cpu_s:5.2f} s  {cpu_s / boto3:4.1f} × import boto3  {len(starts[0].modules):5} modules  {what}"
        )


if __name__ == "__main__":
    main()
