"""The whole main job, `postroom send` from CSV to recorded `sent`, as a ratio to Postfix's `smtp-source` in the same run.

    python -m bench.campaign [--recipients N] [--million]

3 KB of HTML and a text part, 5 variables, 10 tracked links, default settings (FULL, fences and feed on, two workers), to
`smtp-sink` on the same machine. `smtp-source -d -s 32` sends messages of the same size to the same sink, composing and
recording nothing. The rate counts from reading the CSV to the last message recorded; starting Python is shown apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.compose import html_template
from bench.smtp import far_away, smtp_sink, source_rate

COLUMNS = "first_name,company,plan,seats,renewal"


@dataclass(frozen=True)
class Run:
    """One campaign, measured."""

    recipients: int
    seconds: float
    """From reading the CSV to the last message recorded."""
    import_seconds: float
    wall: float
    """Of the whole command."""
    cpu: float
    """Seconds of CPU of all its processes."""
    memory: int
    """Bytes resident in all its processes together, at most."""

    @property
    def rate(self) -> float:
        """Recipients a second, end to end."""
        return self.recipients / self.seconds


def write_csv(path: Path, rows: int) -> None:
    """Different values for everybody."""
    with path.open("w", encoding="utf-8") as file:
        file.write(f"email,{COLUMNS}\n")
        file.writelines(
            f"person{n}@example.com,Anna {n},Acme & Sons,Team,{n % 97},2027-01-{n % 28 + 1:02}\n" for n in range(rows)
        )


def send(
    directory: Path, rows: int, port: int, *, options: str = "", workers: int | None = None, keys: Sequence[str] | None = None
) -> Run:
    """Run the command on a new data directory. `keys`: the sender's domain has DKIM keys, made with these options."""
    recipients, template = directory / f"{rows}.csv", directory / "template.html"
    if not recipients.exists():
        write_csv(recipients, rows)
    template.write_text(html_template(), "utf-8")
    command = [sys.executable, "-m", "postroom", "send", "--template", str(template), "--recipients", str(recipients)]
    command += ["--from", "News <news@example.com>", "--subject", "{{ first_name }}, your news", "--json"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    environ |= {"POSTROOM_PUBLIC_URL": "https://mail.example.com", "POSTROOM_MAIL": f"smtp://127.0.0.1:{port}?tls=none{options}"}
    if workers is not None:
        environ["POSTROOM_WORKERS"] = str(workers)
    with tempfile.TemporaryDirectory(dir=directory) as data:
        environ["POSTROOM_DATA"] = data
        for words in () if keys is None else (["add", *keys], ["verify", "--without-check"]):
            dkim = [sys.executable, "-m", "postroom", "sender", "dkim", *words, "example.com"]
            subprocess.run(dkim, env=environ, capture_output=True, check=True)
        began, cpu = time.monotonic(), _children_cpu()
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with _memory_of(process.pid) as memory:
            output, _ = process.communicate()
        wall, cpu = time.monotonic() - began, _children_cpu() - cpu
    status = json.loads(output)
    if status["counts"]["sent"] != rows:
        raise SystemExit(f"not everybody was sent to: {status}")
    created, started, finished = (datetime.fromisoformat(status[f"{name}_at"]) for name in ("created", "started", "finished"))
    return Run(rows, (finished - created).total_seconds(), (started - created).total_seconds(), wall, cpu, memory[0])


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def _memory_of(root: int) -> Iterator[list[int]]:
    """The most that a process and its descendants held together, sampled; shared pages are counted in each of them."""
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            most[0] = max(most[0], sum(_resident(pid) for pid in _tree(root)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def _tree(root: int) -> list[int]:
    found, queue = [root], [root]
    while queue:
        pid = queue.pop()
        try:
            children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            continue
        found += children
        queue += children
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def message_size(directory: Path) -> int:
    """Bytes of one message of the campaign, as `--dry-run` composes it."""
    write_csv(directory / "one.csv", 1)
    (directory / "template.html").write_text(html_template(), "utf-8")
    command = [sys.executable, "-m", "postroom", "send", "--template", str(directory / "template.html")]
    command += ["--recipients", str(directory / "one.csv"), "--from", "News <news@example.com>", "--dry-run", "--json"]
    command += ["--subject", "{{ first_name }}, your news", "--data", str(directory / "dry")]
    environ = {**os.environ, "POSTROOM_PUBLIC_URL": "https://mail.example.com"}
    output = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    answer: dict[str, Any] = json.loads(output)
    return int(answer["largest_message_bytes"])


def show(name: str, run: Run, reference: float | None = None) -> None:
    """One line of figures."""
    ratio = "" if reference is None else f", ratio {run.rate / reference:.2f}"
    rows, cpu = run.recipients / run.import_seconds, run.cpu / run.recipients * 1e6
    detail = f"{run.seconds:.1f} s; import {rows:,.0f} rows/s; {cpu:.0f} µs of CPU a message; {run.memory / 1e6:.0f} MB"
    print(f"{name:28}{run.rate:9,.0f} messages/s{ratio} ({detail}; whole command {run.wall:.1f} s)", flush=True)


async def send_far(directory: Path, port: int) -> Run:
    """One worker with 20 connections to a relay 50 ms away."""
    async with far_away(port, 0.025) as far:
        run = await asyncio.to_thread(send, directory, 4_000, far, options="&connections=20", workers=1)
        await asyncio.sleep(0.1)
    return run


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipients", type=int, default=100_000)
    parser.add_argument("--million", action="store_true", help="also ten times as many: is it linear, is memory flat?")
    options = parser.parse_args()
    with smtp_sink() as port, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        size = message_size(directory)
        source_rate(port, options.recipients // 5, size)
        before = source_rate(port, options.recipients, size)
        run = send(directory, options.recipients, port)
        after = source_rate(port, options.recipients, size)
        reference = (before + after) / 2
        print(
            f"{'smtp-source -d -s 32':28}{reference:9,.0f} messages/s of {size} bytes ({before:,.0f} before, {after:,.0f} after)"
        )
        show(f"postroom send, {options.recipients:,}", run, reference)
        if options.million:
            more = send(directory, 10 * options.recipients, port)
            show(f"postroom send, {10 * options.recipients:,}", more, reference)
            print(f"{'ten times as many':28}{more.seconds / run.seconds:9.1f} times as long")
        show("50 ms away, 20 connections", asyncio.run(send_far(directory, port)))


if __name__ == "__main__":
    main()
