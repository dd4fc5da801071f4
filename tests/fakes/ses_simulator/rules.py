"""What the simulator does differently, and to whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

ACTIONS = frozenset(
    {
        "error",  # answer `status` with `kind` and `text`
        "refuse",  # the same before the body is read
        "drop",  # read it all and hang up without an answer
        "drop_head",  # hang up when the header has come
        "cut",  # hang up in the middle of an answer
        "garble",  # answer something that is not HTTP
        "stall",  # read it all and never answer
        "deafen",  # stop reading in the middle of the body
        "accept_drop",  # the same after accepting
        "accept_cut",
        "accept_garble",
        "accept_stall",
        "accept_twice",  # two answers to one call
        "accept_close",  # answer, and close as was said
        "accept_hang_up",  # answer, and close without a word
        "late",  # accept, and answer after `seconds`
    }
)


@dataclass
class Rule:
    """The first rule that fits a call is carried out; a call that none fits is accepted."""

    action: str
    status: int = 400
    kind: str = "BadRequestException"
    text: str = "no"
    to: str = "*"
    """Recipients, as a pattern."""
    times: int | None = None
    """So often, then no more; None: always."""
    every: int = 1
    """Only every so-manieth call that fits."""
    seconds: float = 0.0
    _met: int = field(default=0, repr=False)
    _done: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        assert self.action in ACTIONS, self.action

    def fits(self, recipient: str) -> bool:
        """Whether it is this call's turn; counts it."""
        if not fnmatchcase(recipient, self.to) or (self.times is not None and self._done >= self.times):
            return False
        self._met += 1
        if self._met % self.every:
            return False
        self._done += 1
        return True


@dataclass
class Options:
    """The account."""

    rate: float | None = None
    """Messages a second; above it calls are answered 429."""
    burst: float = 1.0
    """Seconds of that rate which may come at once."""
    quota: int | None = None
    """Messages, then the day is used up."""
    sent: int = 0
    """In the last 24 hours, by others."""
    sending: bool = True
    production: bool = True
    standing: str = "HEALTHY"
    region: str = "eu-west-1"
    access_key_id: str = "AKIDEXAMPLE"
    secret_access_key: str = "secret/Example+Key"
    session_token: str | None = None
    """Demanded, where set."""
    knows_keys: bool = True
    """False: whoever signs in the right way is let in, for roles' keys are AWS's own secret."""
    configuration_sets: tuple[str, ...] = ("postroom",)
    event_destinations: tuple[dict[str, object], ...] = ()
    """Of every configuration set."""
    identities: tuple[str, ...] = ("example.com",)
    max_connections: int | None = None
    max_calls: int | None = None
    """Calls a connection carries; with the last one it says that it closes."""
