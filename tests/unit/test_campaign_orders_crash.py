"""An order that dies at any line and comes again makes one campaign, whole, under the id it was given."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from postroom.delivery.compose import ContentCompiler
from postroom.ledger import scheduler_messages
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import AttachmentSpec, Campaign, CampaignRef, CampaignSpec, CampaignStatus, Content, Policies
from postroom.model.template import TemplateContent
from postroom.model.upload import ReadyUpload, UploadKind
from postroom.platform.embedded.objects import FileObjects
from postroom.services.campaign_creation import CampaignCreator, CampaignDefaults, CampaignRequests, CampaignSources, prefix
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import Bench, bench

SPEC = CampaignSpec(
    name="Autumn",
    content=Content(from_="news@example.com"),
    template_id="t",
    template_version=1,
    upload_id="u",
    attachments=(AttachmentSpec("a"),),
)


def orders(made: Bench, objects: FileObjects, faults: Faults) -> CampaignRequests:
    """Whose every call to a store passes `faults`."""
    tables, stored, workflows = faults.wrap(made.tables), faults.wrap(objects), faults.wrap(made.workflows)
    campaigns = Campaigns(tables, made.clock)
    composing = ContentCompiler(Tenants(tables, made.clock), stored, public_url=None, bounce_domain=None)
    creator = CampaignCreator(campaigns, composing=composing, objects=stored, workflows=workflows, clock=made.clock)

    def ready(tenant: str, upload: str, kind: UploadKind) -> ReadyUpload:
        info = objects.info(upload)
        assert info is not None
        return ReadyUpload(upload, kind, upload, info.version, upload, "text/csv", info.size)

    content = TemplateContent("t", 1, "Hi", "<p>Hello</p>", "Hello")
    sources = CampaignSources(lambda *_: content, ready, lambda *_: None, lambda *_: None)
    return CampaignRequests(creator, sources, objects=stored, clock=made.clock, defaults=CampaignDefaults(Policies(), 0))


def place(requests: CampaignRequests, ref: CampaignRef) -> Campaign:
    """As the API does."""
    return requests.find_created(ref) or requests.create(ref, SPEC, start=True)


def calls(tmp_path: Path) -> int:
    """How many an order takes."""
    faults = Faults()
    with bench(tmp_path) as made, closing(FileObjects(tmp_path / "objects", made.clock)) as objects:
        prepared(objects)
        place(orders(made, objects, faults), made.campaigns.new_ref("default"))
    return len(faults.calls)


def prepared(objects: FileObjects) -> None:
    objects.put("u", b"email\nann@a.example\n")
    objects.put("a", b"%PDF-")


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_call_and_made_again_it_is_one_campaign(tmp_path: Path, after: bool) -> None:
    total = calls(tmp_path / "counted")
    assert total > 8
    for at in range(1, total + 1):
        root = tmp_path / str(at)
        with bench(root) as made, closing(FileObjects(root / "objects", made.clock)) as objects:
            prepared(objects)
            ref = made.campaigns.new_ref("default")
            with pytest.raises(Killed):
                place(orders(made, objects, Faults(at, after=after)), ref)
            again = place(orders(made, objects, Faults()), ref)
            check(made, objects, ref)
            assert place(orders(made, objects, Faults()), ref) == again


def check(made: Bench, objects: FileObjects, ref: CampaignRef) -> None:
    """One campaign, all it refers to, nothing else, and its import begun."""
    (campaign,) = made.campaigns.list("default").items
    assert (campaign.ref, campaign.status) == (ref, CampaignStatus.IMPORTING)
    content = campaign.files
    (attachment,) = content.attachments
    named = {content.html_key, content.text_key, attachment.object_key, f"{prefix(ref)}links.json"}
    assert {info.key for info in objects.list(prefix(ref)).objects} == named
    assert objects.get(campaign.source.upload_key, campaign.source.upload_version) == b"email\nann@a.example\n"
    assert [run.execution for run in made.workflows.running(scheduler_messages.IMPORT)] == [ref.campaign]
