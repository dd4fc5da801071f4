"""The simulator by itself: `python -m tests.fakes.ses_simulator [--port P] [--hook URL] [--rate N] [--late SECONDS] [--save DIRECTORY]`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tests.fakes.ses_simulator.rules import Options, Rule
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.fakes.ses_simulator.sns import Topic


def main() -> None:
    """Until Ctrl-C; with `--save`, each message as a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8025)
    parser.add_argument("--hook")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--late", type=float, help="seconds until each answer")
    parser.add_argument("--sns-version", choices=("1", "2"), default="2")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    topic = Topic(version=given.sns_version)
    rules = [Rule("late", seconds=given.late)] if given.late else []
    with SesSimulator(rules, options=Options(rate=given.rate), hook=given.hook, topic=topic, port=given.port) as ses:
        print(f"POSTROOM_MAIL='{ses.provider}'", flush=True)
        saved = 0
        while True:
            time.sleep(1)
            for message in ses.accepted[saved:]:
                saved += 1
                if given.save:
                    given.save.mkdir(parents=True, exist_ok=True)
                    (given.save / f"{message.message_id}.eml").write_bytes(message.content)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(0) from None
