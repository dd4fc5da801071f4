"""What an attempt's result makes of a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.clock import Instant
from postroom.delivery.outcome import Backoff, OutcomeRules
from postroom.model.campaign import Policies, UnknownPolicy
from postroom.model.ids import Key
from postroom.model.message import MessageStatus, Recipient
from postroom.platform.mail._smtp_replies import Reply, refused
from postroom.platform.mail.port import Result, Stage, Verdict

NOW = Instant(1_000_000)
RECIPIENT = Recipient(Key(b"k" * 12), 2, "ann@example.com", None, "[]", MessageStatus.PENDING, 0)


def _rules(unknown: UnknownPolicy = UnknownPolicy.NEVER_TWICE, give_up_at: int = 10**12) -> OutcomeRules:
    policies = Policies(unknown=unknown, settle_after_ms=5_000)
    return OutcomeRules(policies, give_up_at=Instant(give_up_at), backoff=Backoff(first_ms=60_000))


def test_accepted_is_sent_with_the_server_s_words_and_id() -> None:
    result = Result(Verdict.ACCEPTED, 250, "2.0.0", "Ok: queued as 4bX", provider_id="4bX")
    settled = _rules().settle(RECIPIENT, result, NOW, 0.5)
    assert settled is not None
    assert (settled.status, settled.attempt, settled.code, settled.reply, settled.provider_id) == (
        MessageStatus.SENT,
        1,
        250,
        "2.0.0 Ok: queued as 4bX",
        "4bX",
    )


@pytest.mark.parametrize(
    ("code", "enhanced", "stage", "state"),
    [
        (550, "5.1.1", Stage.RCPT, MessageStatus.BOUNCED),
        (550, "5.1.10", Stage.CONTENT, MessageStatus.BOUNCED),
        (550, "", Stage.RCPT, MessageStatus.BOUNCED),
        (553, "", Stage.RCPT, MessageStatus.BOUNCED),
        (550, "5.1.8", Stage.MAIL, MessageStatus.FAILED),  # the sender's address
        (550, "5.7.1", Stage.RCPT, MessageStatus.FAILED),
        (550, "", Stage.CONTENT, MessageStatus.FAILED),
        (554, "", Stage.RCPT, MessageStatus.FAILED),
        (552, "5.2.2", Stage.RCPT, MessageStatus.FAILED),
    ],
)
def test_only_a_refusal_of_the_address_is_a_bounce(code: int, enhanced: str, stage: Stage, state: MessageStatus) -> None:
    settled = _rules().settle(RECIPIENT, Result(Verdict.PERMANENT, code, enhanced, "no", stage), NOW, 0.5)
    assert settled is not None
    assert settled.status is state


def test_what_was_never_handed_over_stays_as_it_stood() -> None:
    assert _rules().settle(RECIPIENT, Result(Verdict.UNSENT), NOW, 0.5) is None


def test_a_lost_answer_is_final_or_due_as_the_policy_says() -> None:
    never_twice = _rules().settle(RECIPIENT, Result(Verdict.UNKNOWN), NOW, 0.5)
    never_missed = _rules(UnknownPolicy.NEVER_MISSED).settle(RECIPIENT, Result(Verdict.UNKNOWN), NOW, 0.5)
    assert never_twice is not None
    assert never_missed is not None
    assert (never_twice.status, never_twice.due) == (MessageStatus.UNKNOWN, None)
    assert (never_missed.status, never_missed.due) == (MessageStatus.UNKNOWN, NOW + 5_000)


def test_a_deferral_past_giving_up_fails_with_the_last_words() -> None:
    settled = _rules(give_up_at=NOW + 1_000).settle(RECIPIENT, Result(Verdict.TEMPORARY, 450, "4.2.2", "full"), NOW, 0.5)
    assert settled is not None
    assert (settled.status, settled.due, settled.reply) == (MessageStatus.FAILED, None, "4.2.2 full")


@pytest.mark.parametrize(
    ("stage", "code", "text"),
    [
        (Stage.MAIL, 550, "5.1.0 <a@b.example>: user unknown"),
        (Stage.MAIL, 553, "5.1.3 bad syntax"),
        (Stage.RCPT, 550, "5.1.0 <a@b.example>: Sender address rejected: User unknown in virtual mailbox table"),
        (Stage.RCPT, 550, "Sender verify failed"),
        (Stage.RCPT, 553, "5.1.3 the From address is not yours"),
        (Stage.RCPT, 550, "5.1.2 return-path has no MX"),
        (Stage.CONTENT, 550, "5.1.1 MAIL FROM: <a@b.example> does not exist"),
    ],
)
def test_a_refusal_of_the_sender_bounces_no_recipient(stage: Stage, code: int, text: str) -> None:
    settled = _rules().settle(RECIPIENT, refused(Reply(code, (text,)), stage), NOW, 0.5)
    assert settled is not None
    assert settled.status is MessageStatus.FAILED


@pytest.mark.parametrize("address", ["<sender@x.example>", "mail.from@x.example", "<return-path@sender.example>"])
def test_an_address_that_only_sounds_like_a_sender_s_still_bounces(address: str) -> None:
    reply = Reply(550, (f"5.1.1 {address}: Recipient address rejected: User unknown",))
    settled = _rules().settle(RECIPIENT, refused(reply, Stage.RCPT), NOW, 0.5)
    assert settled is not None
    assert settled.status is MessageStatus.BOUNCED


@pytest.mark.parametrize(
    ("text", "throttled", "state"),
    [
        ("4.7.1 too many messages, slow down", True, MessageStatus.DEFERRED),  # its words say that it is about the sender
        ("4.7.1 Recipient address rejected: Policy restrictions, try again later", False, MessageStatus.FAILED),
        ("4.2.1 The user you are trying to contact is receiving mail at a rate that is too fast", False, MessageStatus.FAILED),
    ],
)
def test_at_rcpt_only_what_is_about_the_sender_s_pace_outlasts_giving_up(
    text: str, throttled: bool, state: MessageStatus
) -> None:
    result = refused(Reply(450, (text,)), Stage.RCPT)
    assert result.throttled is throttled
    settled = _rules(give_up_at=NOW + 1).settle(RECIPIENT, result, NOW, 0.5)
    assert settled is not None
    assert settled.status is state


@given(st.integers(0, 500), st.floats(0, 1))
def test_a_recipient_of_a_throttled_sender_never_fails(attempts: int, chance: float) -> None:
    recipient = RECIPIENT._replace(attempt=attempts)
    throttled = Result(Verdict.TEMPORARY, 454, "", "Maximum sending rate exceeded", throttled=True)
    settled = _rules(give_up_at=0).settle(recipient, throttled, NOW, chance)
    assert settled is not None
    assert settled.status is MessageStatus.DEFERRED
    assert settled.due is not None
    assert settled.due > NOW


@given(st.integers(1, 1_000), st.floats(0, 1))
def test_waits_double_up_to_the_cap_and_stay_within_their_jitter(attempt: int, chance: float) -> None:
    backoff = Backoff(first_ms=1_000, most_ms=60_000, jitter=0.2)
    wait = backoff.due(attempt, NOW, chance) - NOW
    plain = min(1_000 * 2 ** min(attempt - 1, 20), 60_000)
    assert 0.8 * plain - 1 <= wait <= 1.2 * plain + 1
