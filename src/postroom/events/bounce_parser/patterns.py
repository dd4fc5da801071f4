"""Phrases of mail servers and mailbox providers when they refuse mail, grouped by meaning.

They are written as `classify.normalise_diagnostic` writes a text: case-folded, single spaces. `|` divides phrases; ` … ` stands
for up to `MAX_GAP` characters of anything. Phrases are searched for, not matched as regular expressions, so that no input can
make the search slow.

`CLEAR` groups outrank status codes, `VAGUE` groups apply only if no code has a meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from postroom.model.event import BounceClass, BounceType

MAX_GAP = 100


@dataclass(frozen=True, slots=True)
class PhraseGroup:
    """Phrases of one meaning. `type` applies if the refusal is permanent; a temporary one is soft."""

    category: BounceClass
    type: BounceType
    phrases: str
    contiguous: tuple[str, ...] = field(init=False)
    gapped: tuple[tuple[str, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        each = [" ".join(phrase.split()) for phrase in self.phrases.split("|")]
        object.__setattr__(self, "contiguous", tuple(phrase for phrase in each if "…" not in phrase))
        object.__setattr__(self, "gapped", tuple(tuple(phrase.split(" … ")) for phrase in each if "…" in phrase))

    def occurs_in(self, text: str) -> bool:
        """Whether one of the phrases occurs in a normalised text."""
        return any(phrase in text for phrase in self.contiguous) or any(_occur_in_order(pieces, text) for pieces in self.gapped)


def _occur_in_order(pieces: tuple[str, ...], text: str) -> bool:
    """Starts at the first occurrence of the first piece only: to try each further one would be quadratic."""
    at = text.find(pieces[0])
    for before, piece in pairwise(pieces):
        if at < 0:
            return False
        over = at + len(before)
        at = text.find(piece, over, over + MAX_GAP + len(piece))
    return at >= 0


# About the sender: too fast, on a block list, not allowed. They say nothing about the recipient, whatever the code.

RATE = PhraseGroup(  # Gmail uses the first ones with 4.2.1 and 5.2.1
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
LISTED = PhraseGroup(  # the sender's address or domain is on a block list
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
SENDER = PhraseGroup(  # authentication, relaying, the sender's own address
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
# About the message: its content, its size. The next message may be accepted.
SIZE = PhraseGroup(
    BounceClass.SIZE,
    BounceType.SOFT,
    """
    message too big | message is too big | message size … exceeds | message length exceeds |
    message exceeds … size | message exceeded … size | exceeds … maximum size | exceeded maximum … message size |
    exceeds maximum inbound message size | size limit | size exceeds | line limit | max message size |
    maximum message size | message larger than | exceeding … size | exceeds limit | too big for | too large |
    nachricht ist zu gross | nachricht zu gross | trop volumineux | demasiado grande | muito grande | troppo grande |
    邮件太大
    """,
)
CONTENT = PhraseGroup(  # this message, not the next one
    BounceClass.CONTENT,
    BounceType.SOFT,
    """
    unsolicited | spam | junk mail | junkmail | bulk mail | dt:spm | virus | malware | infected | phishing |
    content rejected | content filter | content policy | message content | content … rejected | content … blocked |
    unacceptable content | prohibited attachment | attachment … not allowed | attachment … not accepted |
    attachment … blocked | attachments … rejected | attachment type | illegal attachment | executable attachment |
    ofr_506 | ofr506 | duplicate header | malformed header | blocked url | malicious | banned content | banned file |
    forbidden file | high probability of | message filtered | rule imposed | message rejected … filter | bad header |
    header error | invalid header | headers … rfc | rfc 5322 | rfc 2822 | rfc5322 | rfc2822 | 垃圾邮件
    """,
)
# About the mailbox: full, disabled, not there. In many languages.
QUOTA = PhraseGroup(  # even with 5.1.1 or 5.2.1
    BounceClass.QUOTA,
    BounceType.SOFT,
    """
    quota | mailbox full | mailbox is full | mailbox … is full | mailbox … full | mailbox has exceeded |
    mailbox exceeds | mailbox size limit | mailbox is over | mailbox over | mailbox limit | mailfolder is full |
    maildir is full | mail box full | mail box is full | mailbox space | inbox is full | inbox full |
    account is full | account full | user is full | storage limit | storage allocation | storage full |
    storage space | out of storage | out of space | over the allowed | over the maximum allowed | overfull |
    over its size | exceeded storage | exceeds storage | exceeded the maximum … mailbox | exceeding the mailbox |
    messages in recipient's mailbox exceeded | exceeded … mailbox | maximum storage | not enough space |
    not enough disk space | not enough storage | not enough room | no space left | insufficient disk space |
    insufficient space | disk full | too much mail data | too many messages … mailbox | postfach … voll |
    postfach ist voll | postfachs … überschritten | speicherplatz | boîte … pleine | boite … pleine |
    boîte aux lettres … pleine | espace … insuffisant | buzón … lleno | buzón lleno | buzon lleno |
    bandeja … llena | caixa … cheia | caixa postal cheia | casella … piena | casella piena | postvak … vol |
    postbus vol | postbus is vol | brevlåda … full | brevlådan är full | postkassen er fuld | postkassen er full |
    postilaatikko … täynnä | skrzynka … pełna | skrzynka … przepełniona | přeplněn | schránka … plná |
    postafiók megtelt | переполнен | скринька переповнена | posta kutusu dolu | 已满 | 空间不足 | 超过容量 |
    信箱已滿 | 容量を超え | 容量が一杯 | いっぱい | 용량
    """,
)
PAUSED = PhraseGroup(  # disabled for a limited time
    BounceClass.DISABLED,
    BounceType.SOFT,
    """
    vorübergehend gesperrt | account … temporarily | mailbox … temporarily | user … temporarily |
    recipient … temporarily | temporary locked | temporarily locked | user … temporary
    """,
)
DISABLED = PhraseGroup(
    BounceClass.DISABLED,
    BounceType.HARD,
    """
    account disabled | account is disabled | account has been disabled | account was disabled |
    account … is disabled | account that you tried to reach is disabled |
    account that you tried to reach is inactive | disabled or discontinued | mailbox disabled | mailbox is disabled |
    mailbox has been disabled | mailbox currently suspended | mailbox suspended | mailbox is suspended |
    mailbox has been suspended | mailbox is blocked | mailbox … is blocked | mailbox is locked | mailbox locked |
    mailbox is frozen | mailbox is inactive | mailbox inactive | mailbox … inactive | mailbox … deactivated |
    inactive mailbox | inactive account | inactive user | inactive for | inactive recipient | user disabled |
    user is disabled | user … is disabled | user suspended | user … suspended | user is suspended |
    user is inactive | user inactive | user … is inactive | user is locked | user deactivated | user is blocked |
    user not active | account suspended | account is suspended | account has been suspended | account … suspended |
    account inactive | account is inactive | account … inactive | account not active | account is not active |
    account isn't active | account is locked | account is blocked | compte … bloqu | mailbox has been blocked |
    account locked | account has been locked | account … has been blocked | account deactivated |
    account … deactivated | account has been closed | account closed | account is closed | account expired |
    account has expired | ha expirado por falta de uso | account cancelled | account canceled | account terminated |
    account … terminated | account unavailable | account … discontinued | user is terminated | disabled account |
    disabled user | disabled recipient | suspended account | recipient suspended | recipient is suspended |
    recipient disabled | recipient … disabled | address … disabled | address is disabled | address … suspended |
    alias is disabled | has been deactivated | has been discontinued | domain is not active |
    mailbox … not accepting | not accepting messages | mailbox not accepting | not accepting mail |
    konto … gesperrt | konto … deaktiviert | postfach … gesperrt | postfach … deaktiviert | compte … désactivé |
    compte … suspendu | cuenta … desactivada | cuenta … suspendida | conta … desativada | conta … bloqueada |
    account disabilitato | casella … disabilitata | konto … zablokowane | учетная запись отключена | заблокирован |
    被禁用 | 已停用 | 已冻结
    """,
)
MAILBOX = PhraseGroup(
    BounceClass.MAILBOX,
    BounceType.HARD,
    """
    user unknown | unknown user | user is unknown | user … unknown | no such mailbox | no such recipient |
    no such account | no such address | no such person | no such local user | no such email | no such alias |
    no such virtual user | such user | mailbox not found | mailbox was not found | mailbox … not found |
    mailbox unknown | mailbox invalid | user not found | user … not found | user … was not found | user not known |
    user isn't | user is not known | user unavailable | user invalid | user no longer | user has moved |
    user has left | ディレクトリのリストにありません | onbekende ontvanger | adres … onbekend | doesn't exist |
    not exist | doesn't have a … account | doesn't have an account | does not have an account | address not found |
    address was not found | address wasn't found | address … wasn't found | address … not found |
    address couldn't be found | address could not be found | address you entered couldn't be found |
    address you sent … couldn't be found | address … could not be found | wasn't found at |
    couldn't be found or is invalid | account not found | account unknown | account invalid | unknown account |
    recipient not found | recipient … not found | recipient unknown | recipient … unknown | recipient not known |
    recipient not recognized | recipient name is not recognized | recipient invalid | recipient address … invalid |
    recipient not in | recipient is not in | recipient no longer | recipient verify failed |
    recipient verification failed | recipient is not local | recipnotfound | unknown recipient | unknown mailbox |
    unknown address | unknown or illegal | unknown local | unknown or invalid | unknown virtual | unknown name |
    unknown email | unknown to | address unknown | address is unknown | address … unknown | address is not known |
    address no longer | address is no longer | address invalid | address is invalid | address is not valid |
    address … not valid | addressee unknown | invalid recipient | invalid-recipient | invalid mailbox |
    invalid user | invalid address | invalid account | invalid email address | invalid destination |
    invalid final delivery | not a valid recipient | not a valid mailbox | not a valid user | not a valid address |
    not a valid email | not valid recipient | not a known user | not a local address | not a local user |
    not a current | not an active | not a member | not a registered | not known here | not known at this |
    not our customer | not listed in | not in … directory | not present in directory | no … in name directory |
    non-existent user | non-existent mailbox | non-existent recipient | non existent | nonexistent |
    bad destination mailbox | bad recipient | bad address | bad mailbox | bad user | illegal alias | illegal user |
    no mailbox | no mail box | no valid recipient | no account by that name | no longer valid | no longer in use |
    no longer works | no longer exists | no longer available | no longer active | no longer accept |
    no longer employed | no longer used | no longer on | no longer with | no one at this address |
    no one here by that name | has been removed | has left the company | mailbox … has moved | account has moved |
    unroutable address | unrouteable | undeliverable address | validrcptto | badrcptto | badrecipientto |
    verify recipient | in my control/locals | this recipient … not | envelope recipient has been denied |
    couldn't be delivered to … because the address | check the recipient |
    5.4.1 … recipient address rejected: access denied | as(201806281) | mailbox cannot be found |
    can't find the mailbox | cannot find the mailbox | no match for | name not found | non è valido | misspell |
    empfänger unbekannt | unbekannter empfänger | adresse unbekannt | benutzer unbekannt | unbekannter benutzer |
    teilnehmer unbekannt | existiert nicht | nicht gefunden | nicht bekannt | n'existe pas | utilisateur inconnu |
    destinataire inconnu | destinataire … invalide | adresse inconnue | adresse … inconnue | introuvable |
    n'a pas été trouvé | n'est pas valide | usuario desconocido | usuario no | no existe | destinatario desconocido |
    destinatario no | no se encontró | no se ha encontrado | no se encuentra | não existe | nao existe |
    usuário desconhecido | destinatário desconhecido | não foi encontrado | não encontrado | utente sconosciuto |
    destinatario sconosciuto | nessun utente | non esiste | inesistente | non trovato | bestaat niet |
    onbekende gebruiker | gebruiker onbekend | niet gevonden | finns inte | hittades inte | okänd | findes ikke |
    finnes ikke | ikke fundet | ikke funnet | ukendt | ei löydy | tuntematon | nie istnieje | nieznany |
    nie znaleziono | neexistuje | neznámý | nebyl nalezen | nem létezik | ismeretlen | не существует | не найден |
    нет такого | неизвестн | не існує | не знайдено | bulunamadı | mevcut değil | δεν υπάρχει | δεν βρέθηκε |
    nu există | 不存在 | 找不到 | 无效的收件人 | 存在しません | 見つかりません | ユーザーが不明 | 存在しない |
    존재하지 않 | 찾을 수 없
    """,
)
# About the way: the domain, its name servers, the network, the SMTP dialogue.
UNREACHED = PhraseGroup(  # no response, or none to this message
    BounceClass.NETWORK,
    BounceType.SOFT,
    """
    lost connection with | connection timed out while | conversation with … timed out |
    delivery temporarily suspended
    """,
)
UNRESOLVED = PhraseGroup(  # the name server failed, not the name
    BounceClass.NETWORK,
    BounceType.SOFT,
    """
    host not found, try again | host not found (try again) | name server timeout | server failure | servfail |
    dns timeout | temporary lookup failure | temporary dns | malformed or unexpected name server |
    temporary resolution | lookup timed out | name server … timed out | query timed out
    """,
)
DOMAIN = PhraseGroup(
    BounceClass.DOMAIN,
    BounceType.HARD,
    """
    host unknown | unknown host | host not found | no such host | no such domain | domain not found |
    domain does not exist | domain doesn't exist | domain … does not exist | domain … doesn't exist |
    domain … couldn't be found | domain … could not be found | domain name not found | unknown domain |
    domain unknown | domain is not found | invalid domain | domain invalid | domain isn't | domain not in use |
    domain has been disabled | domain is disabled | domain has expired | domain expired | domain suspended |
    does not exist … domain | nxdomain | nullmx | indicated no smtp service | dns lookup failure: host … not found |
    domain is not reachable | null mx | no mx | does not accept mail | doesn't accept mail | doesn't receive email |
    does not receive email | not accept any mail | no mail server | no mail hosts | no mail exchanger |
    mx lookup failed | mx record … not found | mx records … no | bad destination host | bad destination system |
    all relevant mx records point to non-existent hosts | couldn't find any host | could not find any host |
    couldn't find a mail exchanger | dns domain … does not exist | unable to find … mx | illegal host/domain |
    unrouteable mail domain | unroutable mail domain | domain … existiert nicht | domäne … nicht gefunden |
    domaine … n'existe pas | dominio … no existe | 域名不存在 | 域名无效
    """,
)
NETWORK = PhraseGroup(
    BounceClass.NETWORK,
    BounceType.SOFT,
    """
    connection timeout | connection refused | connection reset | connection lost | connection dropped |
    connection was dropped | connection closed | connection died | conversation with | timed out | timeout exceeded |
    retry timeout | retry time not reached | lost connection | lost input channel | no route to host |
    network is unreachable | network unreachable | host unreachable | host is unreachable | unable to connect |
    could not connect | couldn't connect | cannot connect | not reachable | did not accept our requests to connect |
    all hosts have been failing | all hosts … failing | multiple retries | failed … attempts |
    message will be retried | for the last | aborted after | refused to talk to me | can't connect |
    failed to connect | unable to contact | establish an smtp connection | no answer from host | not responding |
    did not respond | host … is down | host down | mail loop | routing loop | mail forwarding loop | too many loops |
    hop count exceeded | maximum hop count | loops back to myself | loop detected | too many hops | queue too long |
    time limit | has been in the queue | could not be delivered for | retry period | unable to deliver … for |
    delivery attempts | expired | service unavailable | service temporarily | temporarily unavailable |
    temporarily deferred | temporary failure | temporary local problem | temporary system problem |
    system not accepting | configuration error | internal error | local error | server error | system error |
    i/o error | write error | insufficient system | system resources | resource … unavailable | out of memory |
    can't create output | mail server is | unable to open | shutting down
    """,
)
PROTOCOL = PhraseGroup(
    BounceClass.PROTOCOL,
    BounceType.SOFT,
    """
    syntax error | command not | command unrecognized | unrecognized command | bad sequence | bad command |
    improper command | smtputf8 | 8bitmime | bare lf | bare newline | protocol error | protocol violation |
    not support
    """,
)
# Used only if nothing else has a meaning.
REFUSED = PhraseGroup(  # refused, without saying who or what
    BounceClass.POLICY,
    BounceType.SOFT,
    """
    policy | not authorized | not authorised | not allowed | not permitted | prohibited | forbidden | blocked |
    banned | refused | administratively | rejected | denied
    """,
)
UNAVAILABLE = PhraseGroup(
    BounceClass.MAILBOX,
    BounceType.HARD,
    """
    mailbox unavailable | mailbox name not allowed
    """,
)
NO_ADDRESS = PhraseGroup(  # the recipient's address was refused without a reason
    BounceClass.MAILBOX,
    BounceType.UNDETERMINED,
    """
    mailbox unavailable or access denied | recipient rejected | address rejected | recipient refused |
    recipient not accepted | recipient … not allowed | does not like recipient | invalid
    """,
)
CLEAR = (RATE, LISTED, SENDER, SIZE, QUOTA, CONTENT, UNREACHED, UNRESOLVED, PAUSED, DISABLED, DOMAIN, MAILBOX)
"""They outrank codes. Order: what must not be mistaken for a dead mailbox comes before it."""
VAGUE = (NETWORK, PROTOCOL, NO_ADDRESS, UNAVAILABLE, REFUSED)
"""They apply only if no code has a meaning."""
