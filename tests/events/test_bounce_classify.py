"""What mail servers answer, and what it means: the address is dead only where they say so, for good, and about the address."""

from __future__ import annotations

import pytest

from postroom.events.bounce_parser import classify, heuristics
from postroom.events.bounce_parser.classify import normalise_diagnostic
from postroom.events.bounce_parser.patterns import CLEAR, VAGUE, PhraseGroup
from postroom.model.event import BounceClass, BounceType

REPLIES = """
hard mailbox | 5.1.1 | 550 5.1.1 <a@b.example>: Recipient address rejected: User unknown in local recipient table
hard mailbox |       | 550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking
hard mailbox |       | 550-5.1.1 The email account that you tried to reach does not exist. Please try 550-5.1.1 double-checking 550 5.1.1 - gsmtp
hard mailbox | 5.5.0 | 550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).
hard mailbox |       | 550 Requested action not taken: mailbox unavailable
hard mailbox |       | 554 delivery error: dd This user doesn't have a yahoo.com account (a@b.example) [-20] - mta1234.mail
hard mailbox |       | 550 5.1.1 unknown or illegal alias: a@b.example
hard mailbox | 5.4.1 | 550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [DM6NAM10FT000.eop-nam10.prod.protection.outlook.com]
hard mailbox |       | 550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup
hard mailbox |       | 550 5.1.351 Remote server returned unknown recipient or mailbox unavailable
hard mailbox | 5.7.1 | 550 5.7.1 No such user!
hard mailbox |       | 550 Message was not accepted -- invalid mailbox. Local mailbox a@b.example is unavailable: user not found
hard mailbox |       | 550 5.7.1 No such user!
hard mailbox |       | 550 Mailbox not found. https://service.mail.qq.example
hard mailbox |       | 550 User not found: a@163.example
hard mailbox |       | 550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550
hard mailbox |       | 550 permanent failure for one or more recipients (a@b.example:550 5.1.1 User Unknown)
hard mailbox |       | 550 5.1.0 Address rejected.
hard mailbox |       | 551 User not local; please try <c@d.example>
hard mailbox | 5.1.6 | 550 5.1.6 recipient no longer on server: a@b.example
hard mailbox | 5.1.3 | 501 5.1.3 Bad recipient address syntax
hard mailbox |       | 550 Unrouteable address
hard mailbox |       | 550 sorry, no mailbox here by that name (#5.1.1 - chkuser)
hard mailbox |       | 550 5.2.1 <a@b.example>... User Unknown
hard mailbox |       | Der Empfänger existiert nicht
hard mailbox |       | Utilisateur inconnu !
hard mailbox |       | El usuario no existe
hard mailbox |       | Utente sconosciuto
hard mailbox |       | O usuário não existe neste servidor
hard mailbox |       | Użytkownik nie istnieje
hard mailbox |       | Пользователь не существует
hard mailbox |       | 收件人不存在
hard mailbox |       | 宛先のユーザーは存在しません
hard mailbox |       | 5.7.17 550 Mailbox owner has changed
hard disabled | 5.2.1 | 550 5.2.1 The email account that you tried to reach is disabled.
hard disabled |       | 554 30 Sorry, your message to a@b.example cannot be delivered. This mailbox is disabled (554.30).
hard disabled |       | 554 delivery error: dd Sorry your message to a@b.example cannot be delivered. This account has been disabled or discontinued [#102].
hard disabled |       | 550 Message was not accepted -- invalid mailbox. Local mailbox a@b.example is unavailable: account is disabled
hard disabled | 5.2.1 | 550 5.2.1 a@b.example
hard disabled |       | 550 Mailbox is frozen. See http://mail.example/err/3/
hard disabled |       | 550 Account inactive
hard disabled |       | Das Postfach ist deaktiviert
hard domain  | 5.1.2 | 550 5.1.2 <a@b.example>... Host unknown (Name server: b.example: host not found)
hard domain  | 5.4.4 | Host or domain name not found. Name service error for name=b.example type=A: Host not found
hard domain  | 5.1.10 | 556 5.1.10 Recipient address has null MX
hard domain  |       | Domain b.example does not accept mail (nullMX)
hard domain  |       | 521 b.example does not take our kind
hard domain  | 5.4.310 | 550 5.4.310 DNS domain b.example does not exist [Message=InfoDomainNonexistent]
hard domain  |       | 域名不存在
soft mailbox | 4.1.1 | 450 4.1.1 <a@b.example>: Recipient address rejected: unverified address: user unknown
soft mailbox |       | 451 4.1.1 User unknown, try again
soft domain  | 4.0.0 | The domain b.example doesn't receive email according to the administrator: returned Null MX
soft disabled |      | 550 5.2.1 This account is temporarily suspended
soft quota   | 5.2.2 | 552 5.2.2 The email account that you tried to reach is over quota.
soft quota   | 5.1.1 | 550 5.1.1 mailbox full
soft quota   | 5.2.1 | 550 5.2.1 a@b.example: mailbox is full
soft quota   |       | 554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded
soft quota   |       | 552 Requested mail action aborted: exceeded storage allocation
soft quota   | 4.2.2 | 452 4.2.2 The email account that you tried to reach is over quota
soft quota   |       | Das Postfach ist voll
soft quota   |       | La boîte aux lettres du destinataire est pleine
soft quota   |       | El buzón del destinatario está lleno
soft quota   |       | La casella del destinatario è piena
soft quota   |       | Почтовый ящик переполнен
soft quota   |       | 对方邮箱空间不足
soft quota   |       | メールボックスがいっぱいです
soft policy  | 5.7.1 | 554 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using zen.spamhaus.org
soft policy  | 5.1.1 | 550 5.1.1 Your IP is listed at zen.spamhaus.org
soft policy  | 5.2.1 | 550 5.2.1 Mailbox unavailable. Your IP address 192.0.2.9 is blacklisted using SPAMHAUS-XBL.
soft policy  |       | 550 5.7.1 Unfortunately, messages from [192.0.2.9] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150).
soft policy  |       | 550 SC-001 (COL004-MC1F1) Unfortunately, messages from 192.0.2.9 weren't sent.
soft policy  |       | 554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.example/error-codes
soft policy  |       | 553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.9, because the ip is in Spamhaus's list
soft policy  |       | 421 4.7.0 [TSS04] Messages from 192.0.2.9 temporarily deferred due to user complaints
soft policy  | 5.7.26 | 550-5.7.26 This mail has been blocked because the sender is unauthenticated. 550 5.7.26 SPF [x] with ip: [192.0.2.9] = Did not pass
soft policy  |       | 550 5.7.509 Access denied, sending domain x.example does not pass DMARC verification and has a DMARC policy of reject.
soft policy  |       | 554 Transaction failed Reject due to policy restrictions. For explanation visit https://postmaster.gmx.example
soft policy  |       | 550-Requested action not taken: mailbox unavailable 550 Reject due to policy restrictions.
soft policy  |       | 554 5.7.1 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.9
soft policy  |       | 550 csi.mimecast.org Poor Reputation Sender. - https://community.mimecast.com/docs/DOC-1369#550
soft policy  |       | 550 Administrative prohibition - envelope blocked - https://community.mimecast.com/docs/DOC-1369
soft policy  |       | 554 Service unavailable; Client host [x] blocked using Barracuda Reputation; http://www.barracudanetworks.com/reputation/
soft policy  |       | 550 5.7.1 <a@b.example>: Relay access denied
soft policy  |       | 550 5.7.1 Unable to relay
soft policy  |       | 553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)
soft policy  | 5.1.8 | 553 5.1.8 <bounce@x.example>: Sender address rejected: Domain not found
soft policy  | 5.1.7 | 550 5.1.7 No such domain x.example (in reply to MAIL FROM command)
soft policy  |       | 550 User unknown (in reply to MAIL FROM command)
soft policy  |       | 550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required
soft policy  |       | 550 IP [192.0.2.9] has no reverse DNS
soft policy  |       | 554 MI:SPF 163 smtp10
soft policy  |       | 554 5.7.1 [HM08] Message rejected due to local policy. Please visit https://support.apple.example
soft policy  | 5.7.1 | 550 5.7.1 Message rejected
soft policy  |       | 554 5.7.1 a@b.example: Recipient address rejected: Access denied
soft content | 5.7.1 | 550 5.7.1 Message rejected as spam by Content Filtering.
soft content |       | 550-5.7.1 Our system has detected that this message is likely unsolicited mail. 550 5.7.1 blocked.
soft content |       | 554 5.7.1 Message contains a virus (Eicar-Test-Signature)
soft content | 5.6.0 | 554 5.6.0 Message contains invalid header
soft content |       | 550 spam message rejected. Please visit http://help.mail.example/notspam-support
soft content |       | 554 DT:SPM 163 smtp5
soft content | 5.1.1 | 550 5.1.1 spam message refused
soft size    | 5.3.4 | 552 5.3.4 Message size exceeds fixed maximum message size
soft size    |       | 552 Message too large
soft size    | 5.2.3 | 550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient
soft rate    | 4.2.1 | 450 4.2.1 The user you are trying to contact is receiving mail too quickly.
soft rate    | 5.2.1 | 550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages
soft rate    |       | 421 4.7.28 Our system has detected an unusual rate of unsolicited mail
soft rate    |       | 452 4.5.3 Too many recipients
soft rate    |       | 450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see http://postgrey.example
soft rate    |       | 421 Too many concurrent SMTP connections from this IP
soft network | 4.4.1 | connect to mail.b.example[192.0.2.1]:25: Connection timed out
soft network | 4.4.7 | delivery time expired
soft network | 5.4.7 | 550 4.4.7 QUEUE.Expired; message expired
soft network | 4.4.3 | Host or domain name not found. Name service error for name=b.example type=MX: Host not found, try again
soft network | 5.4.6 | mail for b.example loops back to myself
soft network | 4.4.2 | lost connection with mx.b.example[192.0.2.1] while performing the HELO handshake
soft network | 4.3.2 | 421 4.3.2 Service not available, closing transmission channel
soft network | 5.4.6 | 554 5.4.14 Hop count exceeded - possible mail loop ATTR34
soft network | 4.3.0 | 451 4.3.0 Temporary system problem. Try again later.
soft network |       | retry timeout exceeded
soft protocol | 5.5.2 | 500 5.5.2 Syntax error, command unrecognized
soft protocol | 5.6.7 | 553 5.6.7 SMTPUTF8 is required
undetermined mailbox | | 550 a@b.example recipient rejected
undetermined other | 5.0.0 | 550 5.0.0
undetermined other |  | 554 Transaction failed
undetermined other |  |
soft other   | 4.0.0 | 451 4.0.0 come back some day
"""
ROWS = [tuple(cell.strip() for cell in line.split("|", 2)) for line in REPLIES.strip().split("\n")]


@pytest.mark.parametrize(("meaning", "status", "diagnostic"), ROWS)
def test_reply(meaning: str, status: str, diagnostic: str) -> None:
    bounce = classify(status, diagnostic)
    assert f"{bounce.type} {bounce.category}" == " ".join(meaning.split())


@pytest.mark.parametrize(("meaning", "status", "diagnostic"), ROWS)
def test_what_waits_is_never_hard(meaning: str, status: str, diagnostic: str) -> None:
    assert classify(status, diagnostic, "delayed").type is BounceType.SOFT


@pytest.mark.parametrize(("meaning", "status", "diagnostic"), ROWS)
def test_only_what_is_about_the_address_is_ever_hard(meaning: str, status: str, diagnostic: str) -> None:
    bounce = classify(status, diagnostic)
    if bounce.type is BounceType.HARD:
        assert bounce.category in (BounceClass.MAILBOX, BounceClass.DISABLED, BounceClass.DOMAIN)


def test_the_remote_servers_word_outranks_the_reporters() -> None:
    """A report says 5.4.7, given up, of what was refused with 450 each time: the address may be fine."""
    assert classify("5.4.7", "smtp; 450 4.1.1 user unknown").type is BounceType.SOFT
    assert classify("5.0.0", "550 5.2.2 full").code == "5.2.2"


@pytest.mark.parametrize(
    ("status", "diagnostic", "code"),
    [
        ("5.1.1", "550 5.7.1 blocked", "5.7.1"),
        ("5.0.0", "550 no", "550"),
        ("5.0.0", "no", "5.0.0"),
        ("", "said: 421 come back", "421"),
        ("", "5.1.1.3 is an address, Exim 4.92.3 a version, 500 MB a size", ""),
        ("nonsense", "", ""),
    ],
)
def test_the_code_that_is_kept(status: str, diagnostic: str, code: str) -> None:
    assert classify(status, diagnostic).code == code


def test_an_address_says_nothing() -> None:
    """Whoever is called `mailbox.full` is not thereby full."""
    assert classify("", "550 <user-unknown@spamhaus.example> mailbox.full.quota@spam.example").category is BounceClass.OTHER


@pytest.mark.parametrize("group", [*CLEAR, *VAGUE], ids=lambda group: group.category.value)
def test_phrases_are_written_as_replies_are_read(group: PhraseGroup) -> None:
    """Else they could never be heard."""
    phrases = (*group.contiguous, *map(" ".join, group.gapped))
    assert [phrase for phrase in phrases if normalise_diagnostic(phrase) != phrase] == []


@pytest.mark.parametrize(
    "name", ["BOUNCE_SUBJECTS", "ABSENCE_PREFIXES", "ABSENCE_SUBJECTS", "CHALLENGE_SUBJECTS", "UNSUBSCRIBE_SUBJECTS"]
)
def test_a_wording_is_written_as_subjects_are_read(name: str) -> None:
    for phrase in getattr(heuristics, name):
        assert phrase.casefold().replace("’", "'") == phrase
