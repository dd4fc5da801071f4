"""What the bill of a campaign takes for granted (bench.aws) is what the stack is made of."""

from __future__ import annotations

from bench.aws_bill import GATHERED, MEMORY_MB, NOTICES_S, RECORDS_S, SMALL_MB

from infra.functions import ALL
from infra.stage import Stage
from tests.infra.templates import Templates, text


def test_functions_have_the_memory_that_they_are_priced_with() -> None:
    sizes = {each.name: Stage().step_memory if each.step else Stage().api_memory for each in ALL}
    assert {name: sizes[name] for name in MEMORY_MB} == MEMORY_MB
    assert {sizes[name] for name in ("scheduler", "callbacks-stream", "callbacks-sender", "indexer")} == {SMALL_MB}


def test_functions_gather_as_much_as_they_are_priced_with(templates: Templates) -> None:
    found = {"notices": set[tuple[int, int]](), "stream": set[tuple[int, int]]()}
    for mapping in templates.of("AWS::Lambda::EventSourceMapping"):
        properties = mapping.properties
        gathered = properties["BatchSize"], properties.get("MaximumBatchingWindowInSeconds", 0)
        is_stream = "ScalingConfig" not in properties
        if is_stream or "notices" in text(properties["EventSourceArn"]).lower():
            found["stream" if is_stream else "notices"].add(gathered)
    assert found == {"notices": {(GATHERED, NOTICES_S)}, "stream": {(GATHERED, seconds) for seconds in RECORDS_S.values()}}
