"""`--rate`: what the server sees is what was asked for, over any ten seconds, however many workers share it."""

from __future__ import annotations

from bisect import bisect_left

from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.campaign_kit import MakeOffice, assert_exact, write_csv

RATE = 200
SECONDS = 25
WINDOW_S = 10.0


def test_the_rate_holds_within_a_twentieth_over_any_ten_seconds(make_office: MakeOffice) -> None:
    """It takes as long as it takes: 25 seconds of sending, for a few windows of ten."""
    with SmtpSink([], Options(keep_content=False)) as sink:
        office = make_office(sink.port)
        write_csv(office.recipients, (f"p{n}@x.example" for n in range(RATE * SECONDS)))
        run = office.send("--rate", str(RATE))
        assert run.wait() == 0, run.stderr
    times = sorted(one.at for one in sink.accepted)
    assert_exact(office.messages(), sink.recipients())
    windows = [bisect_left(times, start + WINDOW_S) - first for first, start in enumerate(times) if start + WINDOW_S <= times[-1]]
    assert max(windows) <= 1.05 * RATE * WINDOW_S
    assert min(windows) >= 0.95 * RATE * WINDOW_S
