"""The routes of templates keep to their OpenAPI document, whatever they are asked."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.gateway.app import create_app
from postroom.gateway.rate_limits import ApiRates
from postroom.gateway.routes.templates import templates_routes
from postroom.gateway.state import GatewayConfig
from postroom.model.template import NewTemplate
from postroom.services.templates import TemplateService
from tests.fakes.secrets import PlainSecrets
from tests.gateway.kit import Believer
from tests.unit.template_kit import TemplateHome, open_templates

EDITOR = {"Authorization": "Bearer editor acme"}
FAST = ApiRates(tenant=1e6, principal=1e6, address=1e6)
_ID = re.compile(r"[a-z2-7]{16}")
NEW = NewTemplate(name="News", subject="Hi {{ first_name }}", html="<p>Hi {{ first_name }}</p>")


def schema_of(home: TemplateHome, service: TemplateService) -> Any:
    frame = GatewayConfig(authenticator=Believer(), clock=home.clock, tables=home.tables, secrets=PlainSecrets(), rates=FAST)
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(frame, [templates_routes(service)]))
    schema.config.generation.update(allow_x00=False)
    # what is well formed may still be no template, or ask for a version that is not there
    schema.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "304", "404", "409", "412", "422"]
    return schema


def test_every_operation_keeps_to_the_document(tmp_path: Path) -> None:
    """For a template that is there and for those that are not."""
    statuses: Counter[int] = Counter()
    with open_templates(tmp_path) as home:
        service = home.service()
        template = service.create("acme", service.new_id(), NEW, "anna")
        for operation in (result.ok() for result in schema_of(home, service).get_all_operations()):

            @given(case=operation.as_strategy(), there=st.booleans())
            @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            def keeps(case: Any, there: bool) -> None:
                if there and _ID.fullmatch(str((case.path_parameters or {}).get("template_id"))):
                    case.path_parameters["template_id"] = template.id
                statuses[case.call_and_validate(headers=EDITOR).status_code] += 1

            keeps()
    assert {200, 201, 204, 404, 422} <= statuses.keys()
