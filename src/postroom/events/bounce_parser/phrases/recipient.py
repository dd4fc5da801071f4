"""What is said about the mailbox: full, switched off, not there. In the languages in which people are told."""

from __future__ import annotations

from postroom.events.bounce_parser.phrases.saying import Saying
from postroom.model.event import BounceClass, BounceType

QUOTA = Saying(  # even under 5.1.1 or 5.2.1
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

PAUSED = Saying(  # switched off, and they say for how long: a while
    BounceClass.DISABLED,
    BounceType.SOFT,
    """
    vorübergehend gesperrt | account … temporarily | mailbox … temporarily | user … temporarily |
    recipient … temporarily | temporary locked | temporarily locked | user … temporary
    """,
)

DISABLED = Saying(
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

MAILBOX = Saying(
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
