"""An import in parallel steps comes to what the import in one process comes to: messages, sums, and the report byte for byte."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.ledger.suppression import SuppressionReason
from postroom.model.campaign import CampaignStatus
from postroom.pipeline.splitter.plan import ImportSizes, UploadRange
from tests.flow.import_home import Installation, Outcome, Row, expected
from tests.flow.test_import import PEOPLE, PEOPLE_ROWS, uploads

SMALL = ImportSizes(range_rows=2, range_bytes=1_000, group_batches=1, chunk_rows=3, chunk_bytes=1_000)


@dataclass(frozen=True)
class Result:
    outcome: Outcome
    report: bytes | None
    batches: int


def result(installation: Installation) -> Result:
    source = installation.campaign.source
    report = None if source.rejected_key is None else installation.objects.get(source.rejected_key)
    return Result(installation.outcome(), report, source.batches)


def assert_clean(installation: Installation) -> None:
    """What an import leaves behind: the report and the pinned decisions, nothing else."""
    assert installation.checkpoints.load(installation.ref) is None
    assert installation.tables.query(f"default#imports#{installation.ref.campaign}").items == []
    left = [info.key.split("/import/")[-1] for info in installation.objects.list("default/campaigns/", limit=1_000).objects]
    assert [key for key in left if not key.startswith(("suppressed/", "default/"))] == []


def test_every_row_is_a_message_or_a_line_of_the_report(tmp_path: Path) -> None:
    with Installation(tmp_path, PEOPLE, columns=["name"]) as installation:
        installation.suppress("Bob@X.example")
        installation.run_parallel(sizes=SMALL)
        assert installation.outcome() == expected(PEOPLE_ROWS, ["bob@x.example"])
        assert_clean(installation)


def test_who_left_the_campaigns_topic_is_suppressed(tmp_path: Path) -> None:
    with Installation(tmp_path, b"email\nann@x.example\nbob@x.example\n", topic="offers") as installation:
        key = installation.key("ann@x.example")
        installation.suppression.add(
            "default", key, address="ann@x.example", reason=SuppressionReason.UNSUBSCRIBE, topic="offers"
        )
        installation.run_parallel(sizes=SMALL)
        assert [row["address"] for row in installation.report()] == ["ann@x.example"]


@pytest.mark.parametrize("upload", [b"email\na@x.example\n", b"email\nnobody\n"])
def test_where_all_rows_or_none_are_rejected(tmp_path: Path, upload: bytes) -> None:
    with Installation(tmp_path, upload) as installation:
        installation.run_parallel()
        assert installation.outcome() == expected([Row(2, upload.decode().split()[1])])
        assert_clean(installation)


@pytest.mark.parametrize(
    ("upload", "says"),
    [
        (b"", "empty"),
        (b"name,town\nAnn,Rome\n", "No column of addresses"),
        (b"email,name\n", "no row after the header"),
        (b'email,name\na@x.example,A\nb@x.example,"B\n', "quote opened in line 3"),
        (b"email\n" + b"a@x.example\n" * 3_000 + b'"' + b"b@x.example\n" * 200_000, "line 3002 is longer"),
    ],
)
def test_a_bad_upload_fails_the_campaign_with_the_reason_and_stores_nothing(tmp_path: Path, upload: bytes, says: str) -> None:
    with Installation(tmp_path, upload) as installation:
        assert installation.parallel().plan(installation.ref) is None
        assert installation.campaign.status is CampaignStatus.FAILED
        assert says in (installation.campaign.reason or "")
        assert installation.objects.list("default/campaigns/").objects == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(uploads(), st.integers(1, 5), st.integers(1, 200), st.integers(1, 9))
def test_any_dirty_file_comes_to_the_same_as_in_one_process(
    upload: tuple[bytes, list[Row]], rows: int, size: int, chunk: int
) -> None:
    """Any encoding, delimiter, line end, quoting, raggedness; any size of ranges and chunks."""
    raw, _ = upload
    sizes = ImportSizes(range_rows=rows, range_bytes=size, group_batches=1, chunk_rows=chunk, chunk_bytes=size)
    results = []
    for parallel in (False, True):
        with (
            tempfile.TemporaryDirectory() as root,
            Installation(Path(root), raw, columns=["First_Name", "missing", "nr"]) as installation,
        ):
            installation.suppress("listed@x.example")
            if parallel:
                installation.run_parallel(sizes=sizes)
                assert_clean(installation)
            else:
                installation.run(chunk=chunk)
            results.append(result(installation))
    assert results[0] == results[1]


def test_many_ranges_and_groups_come_to_the_same_as_one_process(tmp_path: Path) -> None:
    """Several thousand rows, so that batches, groups, ranges and blocks of the upload are many."""
    addresses = [f"user{number * 7 % 4_000}@x.example" if number % 5 else f"bad {number}" for number in range(6_000)]
    raw = ("email,note\r\n" + "".join(f'{a},"{n}\r\n{a * 3}"\r\n' for n, a in enumerate(addresses))).encode()
    results = []
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
        with Installation(tmp_path / name, raw, columns=["note"]) as installation:
            installation.suppress(*[f"user{number}@x.example" for number in range(0, 400, 3)])
            if name == "one":
                installation.run(chunk=1_000)
            else:
                sizes = ImportSizes(range_rows=700, group_batches=5, chunk_rows=300)
                division = installation.parallel(sizes=sizes).plan(installation.ref)
                assert division is not None
                assert (division.ranges, division.groups) == (9, 3)
                installation.run_parallel(sizes=sizes)
                assert_clean(installation)
            results.append(result(installation))
    assert results[0].outcome.sums == (6_000, 1_200, results[0].outcome.sums[2], results[0].outcome.sums[3])
    assert results[0] == results[1]


def test_a_range_is_read_from_its_own_bytes_alone(tmp_path: Path) -> None:
    with Installation(tmp_path, PEOPLE, columns=["name"]) as installation:
        division = installation.parallel(sizes=SMALL).plan(installation.ref)
        assert division is not None
        ranges = installation.listed(division.ranges_key, list[UploadRange])
        assert [(part.line, part.rows) for part in ranges] == [(1, 2), (4, 2), (7, 1)]
        assert [PEOPLE[part.start : part.end] for part in ranges] == [
            b"email,name\nann@x.example,Ann\nbob@x.example,Bob\n",
            b"ANN@x.example,Other\n\nnonsense,\n",
            b"cy@x.example,Cy\n",
        ]
