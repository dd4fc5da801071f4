"""Every setting: what it may be, what it is when nobody sets it, and what it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from postroom.settings import parsing


class Kind(NamedTuple):
    """How a setting is read and explained."""

    parse: Callable[[str], Any]
    """Text to value; `Refused` says which rule was broken, any other `ValueError` only that one was."""
    allowed: str
    default: str
    doc: str


KINDS = {
    "data": Kind(
        parsing.directory,
        "a directory",
        "`./postroom-data`",
        "Where the embedded platform keeps everything: databases, objects, journals. Made when it is missing. It must be on a "
        "local file system. A relative path starts at the working directory; in `postroom.toml`, at that file.",
    ),
    "platform": Kind(
        parsing.platform,
        "`embedded` or `aws`",
        "`embedded`",
        "Which home keeps the data: this machine, or a stack that `postroom deploy` made. With `aws` the command line works on "
        "that stack; the settings that begin with `aws_` say where it is, and `postroom[aws]` has to be installed.",
    ),
    "aws_table": Kind(parsing.aws_name, "a name", "none", "With `platform = aws`: the DynamoDB table."),
    "aws_bucket": Kind(parsing.aws_name, "a name", "none", "With `platform = aws`: the S3 bucket."),
    "aws_queues": Kind(
        parsing.aws_arn("sqs"), "what the ARNs of its SQS queues begin with", "none", "With `platform = aws`: the stack's queues."
    ),
    "aws_key": Kind(
        parsing.aws_arns("kms"),
        "the ARN of a KMS key, or several with commas",
        "none",
        "With `platform = aws`: the master key that secrets are sealed under. After it, those it replaced: what was sealed under "
        "them still opens. What KMS rotates inside of a key needs nothing.",
    ),
    "aws_machines": Kind(
        parsing.aws_arn("states"),
        "what the ARNs of its Step Functions state machines begin with",
        "none",
        "With `platform = aws`: the stack's state machines.",
    ),
    "aws_schedules": Kind(
        parsing.aws_name, "a name", "none", "With `platform = aws`: the group of the stack's EventBridge schedules."
    ),
    "aws_schedule_role": Kind(
        parsing.aws_arn("iam"),
        "the ARN of a role",
        "none",
        "With `platform = aws`: the role by which EventBridge Scheduler puts notes on the stack's queue.",
    ),
    "aws_user_pool": Kind(
        parsing.aws_name, "an id", "none", "With `platform = aws`: the Cognito user pool that people sign in at."
    ),
    "aws_usage_key": Kind(
        parsing.aws_name,
        "20 to 128 letters, digits, `_`, `.` and `-`",
        "none: API Gateway counts nobody's calls",
        "With `platform = aws`: the API key under whose usage plan API Gateway counts the calls of whoever is let in.",
    ),
    "aws_search": Kind(
        parsing.public_url, "an https URL", "none: nothing is indexed", "With `platform = aws`: the OpenSearch domain's endpoint."
    ),
    "aws_pagerduty": Kind(
        parsing.aws_secret,
        "the name or ARN of a secret",
        "none: PagerDuty is told of no alarm",
        "With `platform = aws`: the secret in AWS Secrets Manager that holds PagerDuty's routing key (Events API v2).",
    ),
    "mail": Kind(
        parsing.mail,
        "`inbox:`, or `smtp://[user:password@]host[:port][?tls=…&connections=…]` (`smtps://` for TLS from the first byte), or "
        "`ses://[key_id:key@]region[?configuration_set=…]`",
        "`inbox:`",
        "How mail leaves when a campaign names no provider. `inbox:` is the built-in inbox: mail is kept on this machine and "
        "nothing leaves it. The options of `smtp://` are in [smtp.md](smtp.md), those of `ses://` in [ses.md](ses.md). A "
        "password in it is percent-encoded.",
    ),
    "public_url": Kind(
        parsing.public_url,
        "an http or https URL without a query",
        "none",
        "The address under which recipients reach this installation. Tracking links, the opens pixel and the unsubscribe link "
        "exist only when it is set. The door answers them at `/t/…` and `/u/…`: a proxy has to pass these on, with the URL's own "
        "path before them or without. See [tracking.md](tracking.md).",
    ),
    "bounce_domain": Kind(
        parsing.domain,
        "a domain name",
        "none",
        "The domain whose mail comes back here. Return paths that name the single message (VERP) are used only when it is set; "
        "otherwise bounces go to the sender's address.",
    ),
    "feedback_listen": Kind(
        parsing.listen,
        "host:port",
        "none: no mail is taken in",
        "Where `postroom serve` takes the mail that comes back by SMTP: `0.0.0.0:25`, with the MX of `bounce_domain` leading "
        "there. Needs `bounce_domain`. STARTTLS is offered with `tls_certificate`. See [mailroom.md](mailroom.md).",
    ),
    "feedback_mailbox": Kind(
        parsing.mailbox,
        "`imaps://user:password@host[:port][/folder][?keep=yes]`, or `pop3s://…`; `imap://` and `pop3://` go on under STARTTLS",
        "none: no mailbox is looked into",
        "A mailbox that `postroom serve` looks into every minute, where mail that comes back cannot be received by SMTP. Mail "
        "that was taken is deleted there, but for `keep=yes`. User and password are percent-encoded. See "
        "[mailroom.md](mailroom.md).",
    ),
    "ses_topics": Kind(
        parsing.topics,
        "ARNs of SNS topics, with commas",
        "none",
        "The topics whose notices of Amazon SES are believed at `/hooks/ses`; without one nothing answers there. Each may "
        "report on any tenant's messages: see [ses.md](ses.md).",
    ),
    "workers": Kind(parsing.workers, "1 to 64", "the number of processors, at most 4", "How many sender processes run at once."),
    "rate": Kind(
        parsing.rate,
        "0.1 to 1000000",
        "none: as fast as the provider takes them",
        "Recipients a second, at most, over all workers, for campaigns that set no rate themselves.",
    ),
    "lease": Kind(
        parsing.seconds(2, 900),
        "2s to 15m",
        "`15s`",
        "How long a worker may be silent before another takes over its batch. A worker that stops without a word delays its "
        "batches by this much; a shorter lease is lost more easily when the machine is overloaded.",
    ),
    "drain": Kind(
        parsing.seconds(0, 300),
        "0s to 5m",
        "`10s`",
        "How long a pause or shutdown waits for answers to messages that are already with the provider.",
    ),
    "settle_after": Kind(
        parsing.seconds(0, 30 * 86_400),
        "0s to 30d",
        "`1h`",
        "How long a message whose answer was never seen waits for news of it before the campaign's policy for unknown messages "
        "decides.",
    ),
    "give_up_after": Kind(
        parsing.seconds(60, 30 * 86_400),
        "1m to 30d",
        "`48h`",
        "How long after a campaign's start a recipient who is refused for now is tried again before the message fails.",
    ),
    "retry_after": Kind(
        parsing.seconds(1, 3_600),
        "1s to 1h",
        "`1m`",
        "How long a recipient who is refused for now waits for the second try; each further wait is twice as long, up to an "
        "hour.",
    ),
    "schedule_grace": Kind(
        parsing.seconds(0, 30 * 86_400),
        "0s to 30d",
        "`1h`",
        "How late a scheduled campaign may start, after an outage say; found later than that, it is paused instead.",
    ),
    "listen": Kind(
        parsing.listen,
        "host:port",
        "`127.0.0.1:8400`",
        "Where `postroom serve` answers. On any other address than this machine's own, passwords and keys would cross the wire "
        "in the clear without a certificate: set `tls_certificate`, or put a proxy before it that has one.",
    ),
    "api_url": Kind(
        parsing.public_url,
        "an http or https URL without a query",
        "made from `listen`",
        "The address under which people and programs reach the door: the issuer in access tokens, and what upload and download "
        "URLs begin with. Behind a proxy it is the proxy's.",
    ),
    "tls_certificate": Kind(
        parsing.directory, "a PEM file", "none: plain HTTP", "The door's certificate and its chain. TLS 1.2 or newer."
    ),
    "tls_key": Kind(parsing.directory, "a PEM file", "in the certificate's file", "The certificate's private key."),
    "trusted_proxies": Kind(
        parsing.networks,
        "addresses or networks, with commas",
        "none",
        "Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. From anybody else they are ignored.",
    ),
    "cors_origins": Kind(
        parsing.origins,
        "origins (https://app.example), with commas",
        "none",
        "Web sites of others whose scripts may call the API from a browser.",
    ),
    "api_rate": Kind(
        parsing.rate,
        "0.1 to 1000000",
        "`2000`",
        "Calls a second that one tenant may make; an API key has half of it, an address without credentials a tenth.",
    ),
    "issuer": Kind(
        parsing.issuer,
        "an https URL (http on this machine only), to the letter as the provider spells it",
        "none: the built-in issuer",
        "An OpenID Connect provider whose access tokens are accepted instead of the built-in issuer's, such as an Amazon Cognito "
        "user pool. Its keys are found through `/.well-known/openid-configuration`.",
    ),
    "jwks_url": Kind(
        parsing.issuer,
        "an https URL (http on this machine only)",
        "none: where the issuer's discovery document says",
        "With `issuer`: where its keys are fetched instead, such as behind a private endpoint. Whoever answers there decides "
        "which tokens are good.",
    ),
    "audience": Kind(
        parsing.words,
        "words, with commas",
        "none",
        "With `issuer`, and needed there: whose tokens are accepted. One of them must stand in the token's `aud` or, where the "
        "token has no `aud`, be its `client_id`.",
    ),
    "master_key": Kind(
        parsing.master_keys,
        "32 bytes in base64, several with commas",
        "the file `master_key_file`",
        "The key over all keys: provider passwords, second factors, signing keys and uploaded recipient files are stored "
        "encrypted under it. The first encrypts; the others are older ones that still decrypt.",
    ),
    "master_key_file": Kind(
        parsing.directory,
        "a file that only its owner can read",
        "`master.key` in the data directory, made when it is missing",
        "Where the master key is kept when `master_key` is not set. Without it what it encrypts is lost: keep a copy.",
    ),
    "upload_days": Kind(
        parsing.count(1, 3_650),
        "1 to 3650",
        "`30`",
        "After so many days an uploaded recipients file is deleted. One that was announced and never came, after a day.",
    ),
    "retention_days": Kind(
        parsing.count(1, 36_500),
        "1 to 36500",
        "none: for ever",
        "After so many days a campaign that has ended, and single messages, are deleted with all that is known of their "
        "recipients. The suppression list stays.",
    ),
    "callback_networks": Kind(
        parsing.networks,
        "addresses or networks, with commas",
        "none: the public Internet alone",
        "Networks of your own that callbacks may be sent to, also without TLS. From anywhere else in a private network they are "
        "refused, since whoever may name a URL could otherwise make this server call its neighbours.",
    ),
    "soft_bounces": Kind(
        parsing.or_off(parsing.count(2, 100)),
        "2 to 100, or `off`",
        "`5`",
        "After so many bounces that may pass (a full mailbox, say) within `soft_bounce_window` an address is left alone for "
        "`soft_bounce_hold`. Bounces that are for good count at once, and for good.",
    ),
    "soft_bounce_window": Kind(parsing.seconds(3_600, 366 * 86_400), "1h to 366d", "`30d`", "See `soft_bounces`."),
    "soft_bounce_hold": Kind(parsing.seconds(3_600, 366 * 86_400), "1h to 366d", "`14d`", "See `soft_bounces`."),
    "bounce_warn": Kind(
        parsing.or_off(parsing.percent),
        "0.001 to 100 (percent), or `off`",
        "`5`",
        "When so many of a hundred messages that were sent within `guard_window` bounce for good, of a campaign, a provider, a "
        "recipients' domain or single messages, the log and the audit trail say so: see [guard.md](guard.md).",
    ),
    "bounce_pause": Kind(
        parsing.or_off(parsing.percent),
        "0.001 to 100 (percent), or `off`",
        "`10`",
        "When so many of a hundred bounce for good, the campaign is paused; when it is a provider's, all its campaigns.",
    ),
    "complaint_warn": Kind(
        parsing.or_off(parsing.percent), "0.001 to 100 (percent), or `off`", "`0.1`", "The same of complaints: see `bounce_warn`."
    ),
    "complaint_pause": Kind(
        parsing.or_off(parsing.percent),
        "0.001 to 100 (percent), or `off`",
        "`0.5`",
        "The same of complaints: see `bounce_pause`.",
    ),
    "guard_sample": Kind(
        parsing.count(1, 1_000_000),
        "1 to 1000000",
        "`200`",
        "With fewer messages sent within `guard_window` the guard says nothing.",
    ),
    "guard_window": Kind(parsing.seconds(300, 6 * 3_600), "5m to 6h", "`1h`", "Over how long the guard looks back."),
}
"""By field name, in the order of the reference."""
