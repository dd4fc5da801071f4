"""Recognises kinds of mail by header fields, subjects and first lines, where no standard part says what a mail is.

Subjects are compared case-folded, with straight apostrophes and without `Re:`. A weak sign (a subject that says "failed") counts
only if the sender is a mail system. In the phrase lists `|` divides phrases.
"""

from __future__ import annotations

import re

from postroom.events.bounce_parser.mime import HeaderFields


def _each(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split("|"))


MAIL_SYSTEM_LOCAL_PARTS = _each(
    """
    bounce | bounces | delivery | double-bounce | errors | internet.mail.delivery | mail-admin | mail-daemon |
    mail.delivery.system | mail_delivery_subsystem | mailadmin | maildaemon | mailer-daemon | mailer_daemon |
    mailerdaemon | mailerdaemon. | mailmaster | mailsystem | mdaemon | microsoftexchange | mmdf | post_master |
    postmaster | system | uucp
    """
)
"""Local parts of mail servers' sender addresses."""
MAIL_SYSTEM_NAMES = _each(
    """
    mail delivery | mailer-daemon | mailer daemon | mail system | system administrator | postmaster |
    mail administrator | delivery subsystem | delivery status | mail router | internet mail delivery |
    systemadministrator | administrateur système | administrador del sistema | amministratore di sistema |
    microsoft outlook | bounce
    """
)
"""Parts of their display names."""
BOUNCE_OPENINGS = _each(
    """
    hi. this is the qmail-send program | hi. this is the | i'm afraid i wasn't able to deliver |
    this message was created automatically by mail delivery software | this is the mail system at host |
    this is the postfix program at host | your message did not reach some or all of the intended recipients |
    message from yahoo | sorry, we were unable to deliver your message |
    unfortunately, we were unable to deliver your message | the original message was received at |
    delivery to the following recipient | this is an automatically generated delivery status notification |
    i'm sorry to have to inform you | was not delivered to: | did not reach the following recipient |
    could not be delivered to the following | could not be delivered to one or more |
    delivery has failed to these recipients | this is a delivery status notification | mail delivery failed
    """
)
"""Phrases in the first lines of bounces that neither people nor absence messages use."""
BOUNCE_SUBJECTS = _each(
    """
    undeliver | unable to deliver | returned mail | returned to sender | return to sender | mail delivery |
    delivery status | delivery notification | delivery fail | delivery error | delivery problem | delivery report |
    delivery has failed | delivery unsuccessful | failed delivery | failed mail | failure notice | failure delivery |
    failure notification | message delivery | message status | message undeliver | mail failure | mail failed |
    mail error | mail status | mail undeliver | email error | not delivered | non deliver | nondeliver | non-deliver |
    not deliverable | ndn: | ndr: | could not be delivered | couldn't be delivered | can't be delivered |
    cannot be delivered | unable to send | could not send | bounced | bounce | user unknown | unknown user |
    mailbox full | mailbox is full | quota exceeded | over quota | delayed mail | delayed | permanent error |
    mail system error | transport failure | error sending | rejected mail | message rejected | unzustellbar |
    nicht zustellbar | nicht zugestellt | zustellung | zustellfehler | non remis | non distribu | échec | echec |
    non délivr | no se puede entregar | no se pudo entregar | no entregad | devuelto | no se ha podido |
    error de entrega | fallo | não entregue | não foi possível entregar | falha | devolvida |
    não é possível entregar | non recapitabile | mancato recapito | impossibile recapitare | mancata consegna |
    non consegnat | onbestelbaar | niet bezorgd | niet afgeleverd | olevererbar | kan inte levereras |
    kunde inte levereras | kan ikke leveres | ikke leveret | kunne ikke leveres | toimittamat | ei voitu toimittaa |
    niedor | nie dostarczon | niedostarcz | не доставлен | недоставл | не удалось доставить | невозможно доставить |
    nedoruč | kézbesíthetetlen | sikertelen | teslim edileme | δεν παραδόθηκε | δεν είναι δυνατή | nelivrat | 退信 |
    退回 | 投递失败 | 发送失败 | 無法傳遞 | 無法投遞 | 無法送達 | 未送達 | 未传递 |
    无法送达 | 配信不能 | 配信できません | 配信エラー | 配送不能 | 送信できません | 送信エラー |
    エラーメール | 배달되지 | 반송 | 전송 실패 | 메일 전송
    """
)
"""Parts of bounces' subjects, in two dozen languages."""
ABSENCE_PREFIXES = _each(
    """
    out of office | out of the office | out-of-office | outofoffice | ooo: | automatic reply | auto reply |
    auto-reply | autoreply | automatic response | auto response | auto-response | autoresponse | automated reply |
    automated response | auto: | auto : | vacation | on vacation | away from | i am away | i'm away | on leave |
    annual leave | on holiday | holiday | abwesenheit | abwesend | automatische antwort | automatische rückmeldung |
    nicht im büro | ich bin nicht im | im urlaub | urlaub | réponse automatique | absence | absent |
    message d'absence | respuesta automática | fuera de la oficina | fuera de oficina | ausente |
    resposta automática | ausência | fora do escritório | risposta automatica | fuori ufficio | assente |
    automatisch antwoord | afwezig | autosvar | automatiskt svar | frånvaro | automatisk svar | fravær |
    automaattinen vastaus | poissa | odpowiedź automatyczna | autoodpowiedź | nieobecność | автоответ |
    автоматический ответ | автоматична відповідь | automatická odpověď | automatikus válasz | házon kívül |
    otomatik yanıt | αυτόματη απάντηση | εκτόσ γραφείου | răspuns automat | 自动回复 | 自動回覆 | 自動応答 |
    自動返信 | 不在 | 자동 회신 |
    부재 | תשובה אוטומטית | رد تلقائي
    """
)
"""Beginnings of absence messages' subjects."""
ABSENCE_SUBJECTS = _each(
    """
    out of office | out of the office | autoreply | auto-reply | auto reply | automatic reply | vacation reply |
    abwesenheitsnotiz | réponse automatique | 自动回复
    """
)
"""Parts of absence messages' subjects, anywhere."""
CHALLENGE_SUBJECTS = _each(
    """
    confirm your message | please confirm your | verify your e-mail | sender verification | verification required |
    challenge: | (challenge) | please verify | verify yourself | requires confirmation | action required to deliver |
    your message is waiting | boxbe | waiting for confirmation | awaiting verification | message awaiting approval |
    please authenticate
    """
)
"""Parts of the subjects of filters that ask the sender to confirm (challenge-response)."""
CHALLENGE_TEXT = _each(
    """
    boxbe | spam arrest | spamarrest | tmda | click the link below to verify | prove that you are human |
    whitelist yourself | added to my approved senders | confirm that you sent | to release your message |
    reply to this message to confirm
    """
)
"""Parts of their text. A challenge has both."""
UNSUBSCRIBE_SUBJECTS = _each(
    """
    abbestellen | abmelden | abmeldung | afmeld | afmelden | austragen | avmeld | avprenumerera | avregistrera |
    baja | cancelar inscrição | cancelar suscripción | cancellami | cancellazione | darse de baja | descadastrar |
    disiscrizione | désabonnement | désabonner | désinscription | leiratkozás | odhlásit | opt out | opt-out |
    optout | please unsubscribe | please unsubscribe me | remove | remove me | se désabonner | stop | uitschrijven |
    unsubscribe | unsubscribe me | wypisz | отписаться | отписка | 退訂 | 退订 | 配信停止 | 수신거부
    """
)
"""Whole subjects of people who unsubscribe."""
_PREFIX = re.compile(r"(?:(?:re|fwd?|aw|wg|sv|antw|tr|rv|res)\s?:\s{0,3}){1,3}")
_ABSENT_FIELDS = (
    "x-autoreply",
    "x-autorespond",
    "x-autoreply-from",
    "x-mail-autoreply",
    "x-autoresponder",
    "x-auto-reply",
    "vacation",
)
_CHALLENGE_FIELDS = ("x-boxbe-notification", "x-tmda-confirm-to", "x-spamarrest", "x-qconfirm")


def normalised_subject(head: HeaderFields) -> str:
    """The subject in lower case without `Re:` and the like, for comparison."""
    lowered = " ".join(head.text("subject").casefold().replace("’", "'").split())
    prefix = _PREFIX.match(lowered)
    return lowered[prefix.end() :] if prefix else lowered


def is_from_mail_system(head: HeaderFields) -> bool:
    """Whether the envelope sender is empty (RFC 5321 4.5.5) or the From address is a mail server's."""
    if head.get("return-path").replace(" ", "") == "<>":
        return True
    sender = head.text("from").lower()
    local_part = (head.mailbox("from") or sender.strip("<> ")).partition("@")[0]
    return (
        local_part.partition("+")[0] in MAIL_SYSTEM_LOCAL_PARTS
        or local_part.startswith("microsoftexchange")
        or any(name in sender for name in MAIL_SYSTEM_NAMES)
    )


def has_bounce_subject(head: HeaderFields) -> bool:
    """Whether the subject is one of a bounce, in any of two dozen languages."""
    subject = normalised_subject(head)
    return any(words in subject for words in BOUNCE_SUBJECTS)


def opens_like_a_bounce(explanation: str) -> bool:
    """Whether the text begins as only bounces do."""
    start = " ".join(explanation[:1_500].lower().replace("’", "'").split())
    return any(words in start for words in BOUNCE_OPENINGS)


def is_auto_reply(head: HeaderFields) -> bool:
    """Whether header (RFC 3834 5, or older conventions) or subject are an automatic reply's. Bounces may have the same fields."""
    automatic = head.get("auto-submitted").strip().lower()
    if automatic.startswith(("auto-replied", "auto-notified")) or any(name in head for name in _ABSENT_FIELDS):
        return True
    if (
        head.get("precedence").strip().lower() in ("auto_reply", "auto-reply", "autoreply")
        or head.get("preference").lower() == "auto_reply"
    ):
        return True
    if "autoresponder" in head.get("delivered-to").lower() or head.get("x-autogenerated").lower().startswith("reply"):
        return True
    return has_absence_subject(head)


def has_absence_subject(head: HeaderFields) -> bool:
    """Whether the subject is an absence message's."""
    subject = normalised_subject(head)
    return subject.startswith(ABSENCE_PREFIXES) or any(words in subject for words in ABSENCE_SUBJECTS)


def is_challenge(head: HeaderFields, explanation: str) -> bool:
    """Whether a filter asks the sender to confirm the message (challenge-response)."""
    if any(name in head for name in _CHALLENGE_FIELDS) or "tmda" in head.get("x-delivery-agent").lower():
        return True
    subject, words = normalised_subject(head), explanation[:3_000].lower()
    return any(phrase in subject for phrase in CHALLENGE_SUBJECTS) and any(phrase in words for phrase in CHALLENGE_TEXT)


def is_unsubscribe_subject(head: HeaderFields) -> bool:
    """Whether the whole subject asks to unsubscribe."""
    return normalised_subject(head).strip(" .!\"'") in UNSUBSCRIBE_SUBJECTS
