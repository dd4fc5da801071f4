"""Templates and their versions: nothing that was saved changes, nobody's save is lost, and a crash leaves nothing half."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.errors import Conflict, Corrupt, Invalid, NotFound
from postroom.model.template import Language, NewTemplate, Severity, Template, Variable
from postroom.platform.ports.tables import Tables, Write
from postroom.services.template_checks import MAX_COMPARED, TemplateRefused
from postroom.services.templates import TemplateService
from tests.unit.template_kit import TemplateHome, open_templates

TENANT = "default"
NEW = NewTemplate(name="News", subject="Hello {{ first_name }}", html="<p>Hi {{ first_name }}</p>")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[TemplateHome]:
    with open_templates(tmp_path) as opened:
        yield opened


@pytest.fixture
def templates(home: TemplateHome) -> TemplateService:
    return home.service()


def made(templates: TemplateService, new: NewTemplate = NEW, tenant: str = TENANT) -> Template:
    return templates.create(tenant, templates.new_id(), new, "anna")


def saved(templates: TemplateService, template: Template, *, author: str = "bert", **fields: str) -> Template:
    return templates.save(TENANT, template.id, replace(NEW, **fields), author=author)  # type: ignore[arg-type]


def numbers(templates: TemplateService, template: Template) -> list[int]:
    return [version.number for version in templates.versions(TENANT, template.id).items]


def test_what_is_created_is_there_with_author_and_time(templates: TemplateService) -> None:
    template = made(templates)
    assert templates.get(TENANT, template.id) == template
    assert (template.version, template.created_by, template.subject) == (1, "anna", "Hello {{ first_name }}")
    version, checked = templates.version(TENANT, template.id)
    assert (version.number, version.author, version.saved_at) == (1, "anna", template.created_at)
    assert checked.variables == (Variable("first_name", required=True),)


def test_creating_again_with_the_same_id_makes_nothing_and_answers_the_same(templates: TemplateService) -> None:
    first = templates.create(TENANT, "2222222222222222", NEW, "anna")
    assert templates.create(TENANT, "2222222222222222", NEW, "anna") == first
    assert numbers(templates, first) == [1]


def test_every_save_is_a_version_and_the_earlier_ones_stay(templates: TemplateService, home: TemplateHome) -> None:
    template = made(templates)
    home.clock.advance(60)
    template = saved(templates, template, html="<p>Second</p>", note="shorter")
    assert (template.version, template.updated_by) == (2, "bert")
    versions = templates.versions(TENANT, template.id).items
    assert [(v.number, v.author, v.note) for v in versions] == [(2, "bert", "shorter"), (1, "anna", "")]
    assert versions[0].saved_at > versions[1].saved_at
    assert templates.content(TENANT, template.id, 1).html == NEW.html
    assert templates.content(TENANT, template.id).html == "<p>Second</p>"


def test_saving_what_is_there_makes_no_version(templates: TemplateService) -> None:
    template = made(templates)
    again = templates.save(TENANT, template.id, replace(NEW, html="<p>Hi {{ first_name }}</p>"), author="bert")
    assert again == template


def test_another_name_is_no_version_but_a_change(templates: TemplateService) -> None:
    template = made(templates)
    renamed = saved(templates, template, name="  Old   news ")
    assert (renamed.name, renamed.version) == ("Old news", 1)
    assert renamed.revision != template.revision


def test_who_read_an_older_state_is_told_and_changes_nothing(templates: TemplateService) -> None:
    template = made(templates)
    saved(templates, template, html="<p>Bert's</p>")
    with pytest.raises(Conflict):
        templates.save(TENANT, template.id, replace(NEW, html="<p>Carla's</p>"), author="c", if_version=template.revision)
    assert templates.content(TENANT, template.id).html == "<p>Bert's</p>"


class Raced:
    """Somebody else does something right before the first write."""

    def __init__(self, tables: Tables, other: Callable[[], object]) -> None:
        self._tables = tables
        self._other: Callable[[], object] | None = other

    def __getattr__(self, name: str) -> object:
        return getattr(self._tables, name)

    def write(self, writes: Sequence[Write]) -> list[int]:
        other, self._other = self._other, None
        if other:
            other()
        return self._tables.write(writes)


def test_of_two_who_save_at_once_one_wins_whole(templates: TemplateService, home: TemplateHome) -> None:
    template = made(templates)
    slow = home.service(Raced(home.tables, lambda: saved(templates, template, html="<p>First</p>")))  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        saved(slow, template, html="<p>Second</p>")
    assert numbers(templates, template) == [2, 1]
    assert templates.content(TENANT, template.id).html == "<p>First</p>"


def test_archiving_looks_again_when_somebody_saved_meanwhile(templates: TemplateService, home: TemplateHome) -> None:
    template = made(templates)
    slow = home.service(Raced(home.tables, lambda: saved(templates, template, html="<p>First</p>")))  # type: ignore[arg-type]
    archived = slow.archive(TENANT, template.id, author="carla")
    assert (archived.archived, archived.version) == (True, 2)


class Killed(BaseException):
    """The process is gone."""


class Dying:
    """Dies before or after the n-th call of one method."""

    def __init__(self, inner: object, method: str, *, after: bool) -> None:
        self._inner = inner
        self._method = method
        self._after = after

    def __getattr__(self, name: str) -> object:
        call = getattr(self._inner, name)
        if name != self._method:
            return call

        def dying(*args: object, **kwargs: object) -> object:
            if self._after:
                call(*args, **kwargs)
            raise Killed

        return dying


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("store", ["objects", "tables"])
def test_a_save_that_is_killed_is_there_whole_or_not_at_all_and_can_be_made_again(
    home: TemplateHome, templates: TemplateService, store: str, *, after: bool
) -> None:
    template = made(templates)
    dying = (
        home.service(objects=Dying(home.objects, "put", after=after))  # type: ignore[arg-type]
        if store == "objects"
        else home.service(Dying(home.tables, "write", after=after))  # type: ignore[arg-type]
    )
    with pytest.raises(Killed):
        saved(dying, template, html="<p>New</p>")
    fresh = home.service()
    expected = [2, 1] if (store, after) == ("tables", True) else [1]
    assert numbers(fresh, template) == expected
    assert fresh.content(TENANT, template.id).version == expected[0]
    again = saved(fresh, template, html="<p>New</p>")
    assert again.version == 2
    assert numbers(fresh, template) == [2, 1]
    assert fresh.content(TENANT, template.id).html == "<p>New</p>"


def test_rolling_back_makes_a_new_version_that_equals_the_old_and_says_so(templates: TemplateService) -> None:
    template = made(templates)
    saved(templates, template, html="<p>Bad</p>", subject="Bad")
    back = templates.rollback(TENANT, template.id, 1, author="carla")
    assert (back.version, back.subject) == (3, NEW.subject)
    assert templates.content(TENANT, template.id).html == NEW.html
    newest = templates.versions(TENANT, template.id).items[0]
    assert (newest.author, newest.note) == ("carla", "back to version 1")
    assert templates.rollback(TENANT, template.id, 1, author="carla") == back
    with pytest.raises(NotFound):
        templates.rollback(TENANT, template.id, 9, author="carla")


def test_an_archived_template_is_hidden_and_fixed_but_can_be_read_and_brought_back(templates: TemplateService) -> None:
    template, other = made(templates), made(templates, replace(NEW, name="Other"))
    archived = templates.archive(TENANT, template.id, author="anna")
    assert templates.archive(TENANT, template.id, author="bert") == archived
    assert [t.id for t in templates.list(TENANT).items] == [other.id]
    assert [t.id for t in templates.list(TENANT, archived=True).items] == [template.id]
    assert len(templates.list(TENANT, archived=None).items) == 2
    assert templates.content(TENANT, template.id).html == NEW.html
    with pytest.raises(Conflict, match="archived"):
        saved(templates, template, html="<p>x</p>")
    with pytest.raises(Conflict, match="archived"):
        templates.rollback(TENANT, template.id, 1, author="anna")
    templates.archive(TENANT, template.id, author="anna", archived=False)
    assert saved(templates, template, html="<p>x</p>").version == 2


def test_a_list_pages_through_everything_once_newest_first(templates: TemplateService, home: TemplateHome) -> None:
    expected = []
    for number in range(25):
        home.clock.advance(1)
        expected.append(made(templates, replace(NEW, name=f"{'even' if number % 2 == 0 else 'Odd'} {number}")).id)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = templates.list(TENANT, cursor=cursor, limit=4)
        seen += [template.id for template in page.items]
        if (cursor := page.cursor) is None:
            break
    assert seen == expected[::-1]
    assert [t.id for t in templates.list(TENANT, prefix="oDD").items] == expected[1::2][::-1]
    with pytest.raises(Invalid):
        templates.list(TENANT, cursor="no cursor!")


def test_another_tenants_template_is_nobodys(templates: TemplateService) -> None:
    template = made(templates)
    calls: list[Callable[[], object]] = [
        lambda: templates.get("other", template.id),
        lambda: templates.save("other", template.id, NEW, author="x"),
        lambda: templates.rollback("other", template.id, 1, author="x"),
        lambda: templates.archive("other", template.id, author="x"),
        lambda: templates.versions("other", template.id),
        lambda: templates.version("other", template.id),
        lambda: templates.version("other", template.id, 1),
        lambda: templates.content("other", template.id, 1),
        lambda: templates.diff("other", template.id, 1, 1),
    ]
    templates.content(TENANT, template.id, 1)  # what is remembered is remembered for its tenant
    for call in calls:
        with pytest.raises(NotFound):
            call()
    assert templates.list("other").items == []


def test_content_is_read_once_a_version(templates: TemplateService, home: TemplateHome) -> None:
    template = made(templates)
    first = templates.content(TENANT, template.id, 1)
    templates._records._objects = Dying(home.objects, "get", after=False)  # type: ignore[assignment]
    assert templates.content(TENANT, template.id, 1) is first


def test_content_is_forgotten_before_memory_runs_out(home: TemplateHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.services.templates.MAX_CACHED", 100)
    templates = home.service()
    for number in range(4):
        template = made(templates, replace(NEW, html=f"<p>{'x' * 40}{number}</p>"))
        templates.content(TENANT, template.id)
    assert len(templates._contents) == 2


def test_a_body_that_is_gone_is_damage_and_not_absence(templates: TemplateService, home: TemplateHome) -> None:
    template = made(templates)
    home.objects.purge(f"{TENANT}/templates/")
    with pytest.raises(Corrupt):
        templates.content(TENANT, template.id)


def test_a_diff_shows_what_the_author_changed_part_by_part(templates: TemplateService) -> None:
    template = made(templates, replace(NEW, html="<p>\n1\n2\n3\n4\n5\n6\n7\n</p>", text="same"))
    saved(templates, template, html="<p>\n1\n2\n3\n4\n5\nsix\n7\n</p>", subject="Bye", text="same")
    diffs = {part.part: part.diff for part in templates.diff(TENANT, template.id, 1, 2)}
    assert diffs.keys() == {"subject", "body"}
    assert diffs["body"].split("\n") == [
        "--- version 1",
        "+++ version 2",
        "@@ -4,6 +4,6 @@",
        " 3",
        " 4",
        " 5",
        "-6",
        "+six",
        " 7",
        " </p>",
    ]
    assert templates.diff(TENANT, template.id, 2, 2) == ()


def test_a_diff_of_very_long_templates_is_coarse_and_quick(templates: TemplateService) -> None:
    template = made(templates, replace(NEW, html="<p>\n" + "a\nb\n" * MAX_COMPARED + "</p>"))
    saved(templates, template, html="<p>\n" + "b\na\n" * MAX_COMPARED + "</p>")
    (body,) = (part for part in templates.diff(TENANT, template.id, 1, 2) if part.part == "body")
    lines = body.diff.split("\n")[3:]
    assert len(lines) > MAX_COMPARED
    assert lines == sorted(lines, key=lambda line: line[0] == "+")


def test_a_template_with_errors_is_not_saved_and_all_errors_are_told(templates: TemplateService) -> None:
    template = made(templates)
    with pytest.raises(TemplateRefused) as refused:
        saved(templates, template, subject="{{ x", html="<p>\n  {{ y|nonsense }}</p>", text="{% if %}")
    assert [(f.part, f.line, f.column) for f in refused.value.found] == [("subject", 1, 1), ("text", 1, 7), ("html", 2, 8)]
    assert numbers(templates, template) == [1]


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\x07b"])
def test_a_name_is_something_that_can_be_shown(templates: TemplateService, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        made(templates, replace(NEW, name=name))


def test_either_html_or_mjml(templates: TemplateService) -> None:
    for new in (replace(NEW, html=None), replace(NEW, mjml="<mjml></mjml>")):
        with pytest.raises(Invalid, match="either html or mjml"):
            made(templates, new)


def test_mjml_and_styles_are_compiled_when_saved(templates: TemplateService) -> None:
    mjml = "<mjml><mj-body><mj-section><mj-column><mj-text>{{ x }}</mj-text></mj-column></mj-section></mj-body></mjml>"
    template = made(templates, NewTemplate(name="M", subject="s", mjml=mjml))
    assert template.language is Language.MJML
    assert "<table" in templates.content(TENANT, template.id).html
    assert templates.version(TENANT, template.id)[1].source.body == mjml
    styled = "<style>p{color:red}</style><p>x</p>"
    inlined, left = made(templates, replace(NEW, html=styled)), made(templates, replace(NEW, html=styled, inline_css=False))
    assert '<p style="color: red">' in templates.content(TENANT, inlined.id).html
    assert templates.content(TENANT, left.id).html == styled


def test_a_preview_is_what_would_be_sent(templates: TemplateService) -> None:
    new = replace(
        NEW,
        subject="Hi {{ first_name|default('you') }} — ü",
        html='<p>{{ a }} & {{ b }}</p><a href="https://x.example/?q={{ a|urlencode }}">Go</a><a href="{{ unsubscribe_url }}">Off</a>',
    )
    checked = templates.validate(TENANT, new)
    preview = templates.preview(TENANT, checked, {"a": "<1>", "email": "Anna <anna@a.example>"})
    assert preview.rendered.subject == "Hi you — ü"
    assert "<p>&lt;1&gt; & </p>" in preview.rendered.html
    assert 'href="https://x.example/?q=%3C1%3E"' in preview.rendered.html
    assert 'href="https://mail.example/u/' in preview.rendered.html
    assert preview.rendered.text.startswith("<1> &")
    assert "Go (https://x.example/?q=%3C1%3E)" in preview.rendered.text
    assert preview.missing == ("b",)
    assert preview.size == len(preview.rendered.html.encode())


def test_a_preview_of_a_row_nothing_can_be_made_of_is_refused(templates: TemplateService) -> None:
    checked = templates.validate(TENANT, replace(NEW, subject="{{ first_name }}"))
    with pytest.raises(Invalid, match="a subject of"):
        templates.preview(TENANT, checked, {"first_name": "x" * 1_001})
    with pytest.raises(Invalid, match="email"):
        templates.preview(TENANT, checked, {"email": "nobody"})


def test_without_a_public_url_a_template_can_be_looked_at_and_warns(home: TemplateHome) -> None:
    templates = home.service(public_url=None)
    checked = templates.validate(TENANT, replace(NEW, html='<a href="{{ unsubscribe_url }}">Off</a>'))
    assert "no-public-url" in [finding.code for finding in checked.findings]
    assert "links.example" in templates.preview(TENANT, checked, {}).rendered.html
    guarded = '<p>x{% if unsubscribe_url %}<a href="{{ unsubscribe_url }}">Off</a>{% endif %}</p>'
    checked = templates.validate(TENANT, replace(NEW, html=guarded))
    assert [f.code for f in checked.findings if f.severity is Severity.WARNING] == []
    assert "Off" not in templates.preview(TENANT, checked, {}).rendered.html
