"""What people call the column of addresses, in many languages; compared without case, accents, spaces and punctuation."""

from __future__ import annotations

import unicodedata


def squeeze(name: str) -> str:
    """A name's letters and digits alone: `E-Mail Adresse` and `email_adresse` are one."""
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    return "".join(character for character in decomposed if character.isalnum())


def _squeezed(*lines: str) -> frozenset[str]:
    return frozenset(squeeze(name) for line in lines for name in line.split("|"))


PLAIN = _squeezed(
    "email|emails|mail|mail address|email address|email addresses|email id|email adress|eaddress|electronic mail|email 1",
    "courriel|adresse courriel|adresse de courriel|adresse email|adresse mail|adresse électronique|adresse de messagerie",
    "E-Mail-Adresse|Mailadresse|E-Post-Adresse|E-Mail-Anschrift",
    "correo|correo electrónico|dirección email|dirección de correo|dirección de correo electrónico|correu electrònic",
    "posta elettronica|indirizzo email|indirizzo mail|indirizzo di posta elettronica",
    "endereço email|endereço de email|endereço eletrônico|correio eletrônico|correio electrónico",
    "emailadres|mailadres|e-post|e-postadress|e-postadresse|sähköposti|sähköpostiosoite|netfang|tölvupóstfang",
    "adres email|adres e-mailowy|poczta elektroniczna|adres poczty elektronicznej|e-mail cím|emailová adresa|elektronická pošta",
    "adresă de email|adresa e-mail|e-pošta|e-posta|e-posta adresi|eposta aadress|meil|meiliaadress|e-pasts|el. paštas|surel",
    "địa chỉ email|thư điện tử",
    "почта|электронная почта|адрес электронной почты|эл. почта|эл. адрес|емейл|имейл|имэйл|мейл|електронна пошта|електронна поща",
    "ηλεκτρονικό ταχυδρομείο|ηλεκτρονική διεύθυνση|διεύθυνση email",
    "邮箱|邮箱地址|电子邮箱|电子邮件|电子邮件地址|邮件|電郵|電郵地址|電子郵件|電子郵件地址|電子信箱|信箱",
    "メール|メールアドレス|Eメール|Eメールアドレス|電子メール|メアド|이메일|이메일 주소|메일|메일 주소|전자우편",
    "البريد الإلكتروني|بريد إلكتروني|الإيميل|ایمیل|דוא״ל|דואר אלקטרוני|אימייל|ईमेल|ईमेल पता|อีเมล|อีเมล์",
)
"""It can be nothing else."""

QUALIFIED = _squeezed(
    "primary email|primary email address|main email|E-mail 1 - Value|email address 1|emailaddress1|recipient email",
    "work email|business email|company email|personal email|home email|private email|contact email|customer email|client email",
    "user email|member email|subscriber email|to email|email to|E-Mail privat|E-Mail geschäftlich|email profesional",
)
"""An address, where no column says so plainly."""

VAGUE = _squeezed(
    "to|recipient|recipients|address|addresses|contact|contacts|subscriber|subscribers|user|username|user id|login",
    "Empfänger|destinataire|destinatario|destinatário|ontvanger|получатель|收件人|宛先|受信者",
)
"""Other things too: only where the cells are addresses."""
