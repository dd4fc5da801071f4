"""Every figure of the README, in one run: `make bench`. Each file here can also be run by itself."""

from __future__ import annotations

import subprocess
import sys

SUITES = (
    ("composing", ["bench.compose"]),
    ("the ledger", ["bench.ledger"]),
    ("the SMTP mailer", ["bench.smtp"]),
    ("Amazon SES", ["bench.ses"]),
    ("what Amazon SES notifies of", ["bench.notices"]),
    ("accepting single messages", ["bench.messages"]),
    ("signing with DKIM", ["bench.signing"]),
    ("reading bounces", ["bench.bounces"]),
    ("taking in reports by SMTP", ["bench.listener"]),
    ("noting what comes back", ["bench.events"]),
    ("a campaign's status over HTTP", ["bench.status"]),
    ("opens and clicks over HTTP", ["bench.tracking"]),
    ("sending while everything comes back", ["bench.feedback"]),
    ("telling callbacks", ["bench.callbacks"]),
    ("the whole campaign", ["bench.campaign", "--million"]),
    ("a campaign through the API", ["bench.serve"]),
    ("functions on AWS, started cold", ["bench.cold_start"]),
    ("a campaign on AWS, counted and priced", ["bench.aws"]),
)


def main() -> None:
    """Run all, each in a process of its own."""
    for title, command in SUITES:
        print(f"\n== {title}", flush=True)
        subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    main()
