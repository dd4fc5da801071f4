"""When the scripted SMTP server misbehaves, and how: rules as data, so that they also travel as JSON to another process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

STAGES = ("connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "content", "dot", "rset")
ACTIONS = {
    "reply": "answer `code text`; at `dot` a 2xx means accepted and recorded",
    "take": "at `mail` or `rcpt`: answer `code text`, and take the sender or recipient whatever the code says",
    "hang_up": "answer `code text`, then close",
    "drop": "close (FIN) without an answer",
    "reset": "close (RST) without an answer",
    "cut": "send half of the usual answer, then close",
    "garble": "answer with something that is not SMTP",
    "stall": "never answer, never read again",
    "late": "do the usual, but answer it and what follows only after `seconds`",
    "deafen": "stop reading from the socket, so that the client's writes back up",
    "drip": "answer one byte every `seconds`, for ever, and never end the line",
    "accept_drop": "at `dot`: record it, then close without an answer",
    "accept_cut": "at `dot`: record it, send half of the answer, close",
    "accept_garble": "at `dot`: record it, then answer with something that is not SMTP",
    "accept_stall": "at `dot`: record it, never answer",
    "accept_close": "at `dot`: record it, answer 250, close",
}


@dataclass(frozen=True)
class Rule:
    """At `stage`, for the messages it matches, do `action` instead of the usual. The first rule that fires wins."""

    stage: str
    action: str
    code: int = 451
    text: str = "4.3.0 scripted"
    to: str = "*"
    """Shell pattern for the recipient (known from `rcpt` on)."""
    sender: str = "*"
    """Shell pattern for the return path (known from `mail` on)."""
    nth: int = 0
    """Only the nth match, from 1; 0: all."""
    every: int = 0
    """Only each so manieth match."""
    times: int = 0
    """At most so often in all; 0: always."""
    first: int = 0
    """Only the first so many matches of each recipient: 1 with a 450 is greylisting."""
    seconds: float = 0.05

    def __post_init__(self) -> None:
        if self.stage not in STAGES or self.action not in ACTIONS:
            raise ValueError(f"no such stage or action: {self.stage} {self.action}")
        if self.action.startswith("accept") and self.stage != "dot":
            raise ValueError(f"{self.action} is for the dot")


class Script:
    """Rules and how often each has matched."""

    def __init__(self, rules: list[Rule]) -> None:
        self._by_stage: dict[str, list[Rule]] = {}
        for rule in rules:
            self._by_stage.setdefault(rule.stage, []).append(rule)
        self._matched: Counter[Rule] = Counter()
        self._fired: Counter[Rule] = Counter()
        self._per_recipient: Counter[tuple[Rule, str]] = Counter()

    def rule(self, stage: str, *, sender: str, recipient: str) -> Rule | None:
        """The rule that fires now."""
        for rule in self._by_stage.get(stage, ()):
            if _matches(rule.sender, sender) and _matches(rule.to, recipient) and self._due(rule, recipient):
                self._fired[rule] += 1
                return rule
        return None

    def _due(self, rule: Rule, recipient: str) -> bool:
        self._matched[rule] += 1
        self._per_recipient[rule, recipient] += 1
        if rule.times and self._fired[rule] >= rule.times:
            return False
        if rule.first and self._per_recipient[rule, recipient] > rule.first:
            return False
        count = self._matched[rule]
        return (not rule.nth or count == rule.nth) and (not rule.every or count % rule.every == 0)


def rules_from(records: list[dict[str, Any]]) -> list[Rule]:
    """From JSON objects with the names of `Rule`'s fields."""
    return [Rule(**record) for record in records]


def _matches(pattern: str, value: str) -> bool:
    return pattern in ("*", value) or fnmatchcase(value, pattern)
