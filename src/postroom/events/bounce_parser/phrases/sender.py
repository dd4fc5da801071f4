"""What is said about us: too fast, on a list, not allowed. It says nothing of the recipient, whatever the code."""

from __future__ import annotations

from postroom.events.bounce_parser.phrases.saying import Saying
from postroom.model.event import BounceClass, BounceType

RATE = Saying(  # says nothing of the mailbox; Gmail says the first ones under 4.2.1 and 5.2.1
    BounceClass.RATE,
    BounceType.SOFT,
    """
    receiving mail too quickly | receiving mail at a rate | at a rate that | unusual rate of | rate limit |
    rate-limit | ratelimit | exceeded the rate | exceeds the rate | sending rate | sending limit | daily limit |
    hourly limit | message limit | relay quota | sending quota | daily … quota | limit on the number of | throttl |
    too many messages | too many connections | too many concurrent | too many sessions | too many recipients |
    too many emails | too many mails | too much mail | too fast | connection limit | connection frequency |
    frequency limited | greylist | graylist | maximum number of messages | exceeded … messages per |
    exceeded … connections per | resources restricted
    """,
)

LISTED = Saying(  # the sender's address or domain is on somebody's list
    BounceClass.POLICY,
    BounceType.SOFT,
    """
    spamhaus | spamcop | sorbs | barracudacentral | barracuda reputation | barracudanetworks.com/reputation |
    ipcheck.proofpoint | csi.cloudmark | senderscore | uceprotect | invaluement | abusix | spamrl | trend micro rbl |
    mail-abuse.com | surbl | cbl.abuseat | postmaster.comcast.net | dnsbl | blocklist | block list | black list |
    blacklist | black-list | blocked using | blocked by … rbl | realtime block | listed at | listed in … rbl |
    in an rbl | rbl restriction | poor reputation | bad reputation | low reputation | reputation of |
    reputation score | reputation service | ip reputation | mail reputation | banned ip | ip banned |
    ip address … blocked | ip … has been blocked | your ip | client host … blocked | client host rejected |
    client host blocked | host … has been blocked | connection refused due to abuse | messages from … weren't sent |
    part of their network is on our | not accepting … from your | not accept mail from your | not accept email from |
    not accepting mail from | connections not accepted from | connections will not be accepted |
    rejected … geographical | blocked for spam | blocked for abuse | user complaints | excessive complaints |
    too many invalid recipients | too many bad | too many unknown | mailfrom … blocked | hl:ipb | mi:nbl | mi:stc |
    mi:dmc | mi:spb | sc-001 | dy-001 | ru-001 | [ts0 | [bl21 | [bl23 | sending ip | unverifyable sending |
    invalid ip | a problem occurred. (ask your postmaster | [tss0 | [hm0 | [ph01]
    """,
)

SENDER = Saying(  # who we are, or what we may: authentication, relaying, the sender's own address
    BounceClass.POLICY,
    BounceType.SOFT,
    """
    dmarc | dkim | spf check | spf fail | spf record | spf policy | spf validation | fails spf | failed spf |
    not pass spf | message was rejected by spf | mi:spf | sender policy framework | sender id |
    authentication checks | unauthenticated | authentication required | must be authenticated | must authenticate |
    not authenticated | sender authentication | authentication results | relay access denied | relaying denied |
    relay denied | relaying not allowed | relay not permitted | relaying prohibited | unable to relay |
    not permitted to relay | not relay | no relay | not allowed to relay | relay operation | open relay | rcpthosts |
    not a gateway | we do not accept mail for | reverse dns | reverse-dns | rdns | ptr record | no ptr | ptr lookup |
    without ptr | cannot find your hostname | cannot find your reverse | cannot resolve your | client host name |
    does not resolve | ehlo name | spoofed | spoofing | sender rejected | sender address rejected |
    sender address … rejected | sender denied | sender refused | sender not | sender is not | sender is blocked |
    sender … blocked | sender domain | sender's domain | domain of sender | sender verify | sender verification |
    verify sender | sender unknown | unknown sender | invalid sender | bad sender | return address | return path |
    from address | from domain | sending domain | sender email | policy restrictions | due to policy |
    policy reasons | local policy | policy violation | envelope blocked | my name was rejected | helo … rejected |
    rejected … helo | invalid helo | bad helo | helo name | from: domain | valid from: | recipient preferences |
    groups.google.com | group you tried to contact | mismatches client | access from … country | country … blocked |
    invalid certificate | certificate … verif | envelope sender | blocked sender | restricted sender |
    senders … allowed | not allowed to send | not authorized to send | not authorised to send |
    not permitted to send | permission to send | aren't allowed to send | isn't allowed to send |
    only accepts … from | only accept … from | accepts messages only from | authorized senders | authrequired |
    restrictednotallowed | rejected by recipient | rejected by this user | has blocked you | blocked by user |
    blocked by recipient | user has blocked | whitelist | allowlist | allow list | trusted senders |
    challenge-response | starttls | requires tls | tls required | encryption required
    """,
)
