"""Every setting: its task, the values it takes, its default and its purpose. docs/reference/settings.md is made from this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from postroom.settings import parsing


class Setting(NamedTuple):
    """How one setting is read and explained."""

    parse: Callable[[str], Any]
    """Text to value. Raises `Refused` with the rule that was broken, or any `ValueError`."""
    allowed: str
    default: str
    doc: str


_PERCENT_OR_OFF = "0.001 to 100 (percent), or `off`"

GROUPS: dict[str, dict[str, Setting]] = {
    "Send mail": {
        "mail": Setting(
            parsing.mail,
            "`inbox:`, or `smtp://[user:password@]host[:port][?tls=…&connections=…]` (`smtps://` for TLS from the first "
            "byte), or `ses://[key_id:key@]region[?configuration_set=…]`",
            "`inbox:`",
            "The default provider: how mail is sent when a campaign or message names no provider. `inbox:` is the built-in "
            "inbox, which keeps mail on this machine and delivers nothing. [smtp.md](smtp.md) lists the options of `smtp://`,"
            " [ses.md](ses.md) those of `ses://`. Percent-encode the password.",
        ),
        "rate": Setting(
            parsing.rate,
            "0.1 to 1000000",
            "none: as fast as the provider accepts",
            "The maximum number of recipients per second, over all workers, for campaigns that set no rate themselves.",
        ),
        "workers": Setting(parsing.workers, "1 to 64", "the number of processors, at most 4", "The number of sender processes."),
        "settle_after": Setting(
            parsing.seconds(0, 30 * 86_400),
            "0s to 30d",
            "`1h`",
            "How long a message with status `unknown` (handed over, no answer seen) waits for a provider event before the "
            "campaign's policy for unknown messages decides.",
        ),
        "retry_after": Setting(
            parsing.seconds(1, 3_600),
            "1s to 1h",
            "`1m`",
            "The wait before the second attempt after a temporary refusal. Each further wait is twice as long, up to one hour.",
        ),
        "give_up_after": Setting(
            parsing.seconds(60, 30 * 86_400),
            "1m to 30d",
            "`48h`",
            "How long after a campaign's start a temporarily refused recipient is retried before the message fails.",
        ),
        "schedule_grace": Setting(
            parsing.seconds(0, 30 * 86_400),
            "0s to 30d",
            "`1h`",
            "How late a scheduled campaign may start, for example after an outage. A campaign that is later than that is paused.",
        ),
        "lease": Setting(
            parsing.seconds(2, 900),
            "2s to 15m",
            "`15s`",
            "How long a worker may be silent before another worker takes over its batch. A killed worker delays its batches by "
            "this much; a shorter lease is lost more easily on an overloaded machine.",
        ),
        "drain": Setting(
            parsing.seconds(0, 300),
            "0s to 5m",
            "`10s`",
            "How long a pause or shutdown waits for answers to messages that are already with the provider.",
        ),
    },
    "Track opens, clicks, bounces and unsubscribes": {
        "public_url": Setting(
            parsing.public_url,
            "an http or https URL without a query",
            "none",
            "The base URL at which recipients reach this installation. Tracking links, the open pixel and the unsubscribe "
            "link exist only when it is set. Postroom serves them under `/t/…` and `/u/…`: a proxy must pass these on, with "
            "or without the URL's own path in front. See [tracking.md](tracking.md).",
        ),
        "bounce_domain": Setting(
            parsing.domain,
            "a domain name",
            "none",
            "The domain that receives bounces. Only when it is set does each message get a return path of its own (VERP); "
            "otherwise bounces go to the sender's address.",
        ),
        "feedback_listen": Setting(
            parsing.listen,
            "host:port",
            "none: no SMTP receiver",
            "Where `postroom serve` receives bounces and complaints by SMTP: `0.0.0.0:25`, with the MX record of `bounce_domain` "
            "pointing there. Requires `bounce_domain`. Offers STARTTLS when `tls_certificate` is set. See "
            "[inbound-mail.md](inbound-mail.md).",
        ),
        "feedback_mailbox": Setting(
            parsing.mailbox,
            "`imaps://user:password@host[:port][/folder][?keep=yes]`, or `pop3s://…`; `imap://` and `pop3://` use STARTTLS",
            "none: no mailbox is polled",
            "A mailbox that `postroom serve` polls every minute for bounces and complaints, for installations that cannot "
            "receive SMTP. Processed mail is deleted from it unless `keep=yes`. Percent-encode user and password. See "
            "[inbound-mail.md](inbound-mail.md).",
        ),
        "ses_topics": Setting(
            parsing.topics,
            "ARNs of SNS topics, separated by commas",
            "none",
            "The SNS topics whose Amazon SES events are accepted at `/hooks/ses`; without one the endpoint answers 404. A "
            "topic may report on any tenant's messages: see [ses.md](ses.md).",
        ),
        "soft_bounces": Setting(
            parsing.or_off(parsing.count(2, 100)),
            "2 to 100, or `off`",
            "`5`",
            "The number of soft bounces (a full mailbox, for example) within `soft_bounce_window` after which an address is "
            "suppressed for `soft_bounce_hold`. Hard bounces suppress at once and permanently.",
        ),
        "soft_bounce_window": Setting(parsing.seconds(3_600, 366 * 86_400), "1h to 366d", "`30d`", "See `soft_bounces`."),
        "soft_bounce_hold": Setting(parsing.seconds(3_600, 366 * 86_400), "1h to 366d", "`14d`", "See `soft_bounces`."),
    },
    "Protect your reputation": {
        "bounce_warn": Setting(
            parsing.or_off(parsing.percent),
            _PERCENT_OR_OFF,
            "`5`",
            "The hard bounce rate within `guard_window` at which a warning is logged and written to the audit trail: of a "
            "campaign, a provider, a recipient domain, or single messages. See [guard.md](guard.md).",
        ),
        "bounce_pause": Setting(
            parsing.or_off(parsing.percent),
            _PERCENT_OR_OFF,
            "`10`",
            "The hard bounce rate at which a campaign is paused; at a provider's rate, all its campaigns are.",
        ),
        "complaint_warn": Setting(
            parsing.or_off(parsing.percent), _PERCENT_OR_OFF, "`0.1`", "The same for complaints: see `bounce_warn`."
        ),
        "complaint_pause": Setting(
            parsing.or_off(parsing.percent), _PERCENT_OR_OFF, "`0.5`", "The same for complaints: see `bounce_pause`."
        ),
        "guard_sample": Setting(
            parsing.count(1, 1_000_000),
            "1 to 1000000",
            "`200`",
            "The minimum number of messages sent within `guard_window` before rates are judged.",
        ),
        "guard_window": Setting(parsing.seconds(300, 6 * 3_600), "5m to 6h", "`1h`", "The period over which rates are computed."),
    },
    "Run the server": {
        "listen": Setting(
            parsing.listen,
            "host:port",
            "`127.0.0.1:8400`",
            "The address of the HTTP API of `postroom serve`. On any address but loopback, passwords and keys travel in clear"
            " text unless `tls_certificate` is set or a proxy with a certificate is in front.",
        ),
        "api_url": Setting(
            parsing.public_url,
            "an http or https URL without a query",
            "derived from `listen`",
            "The base URL at which people and programs reach the API: the issuer of access tokens and the start of upload and "
            "download URLs. Behind a proxy, the proxy's URL.",
        ),
        "tls_certificate": Setting(
            parsing.directory, "a PEM file", "none: plain HTTP", "The server's certificate with its chain. TLS 1.2 or newer."
        ),
        "tls_key": Setting(parsing.directory, "a PEM file", "in the certificate's file", "The certificate's private key."),
        "trusted_proxies": Setting(
            parsing.networks,
            "addresses or networks, separated by commas",
            "none",
            "The proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted. From other addresses they are ignored.",
        ),
        "cors_origins": Setting(
            parsing.origins,
            "origins (https://app.example), separated by commas",
            "none",
            "The origins whose scripts may call the API from a browser (CORS).",
        ),
        "api_rate": Setting(
            parsing.rate,
            "0.1 to 1000000",
            "`2000`",
            "Requests per second for each tenant. An API key has half of it, an address without credentials a tenth.",
        ),
        "callback_networks": Setting(
            parsing.networks,
            "addresses or networks, separated by commas",
            "none: public addresses only",
            "Private networks that callbacks may be sent to, also without TLS. Other private addresses are refused, since a "
            "tenant could otherwise make this server call its neighbours (SSRF).",
        ),
        "log_format": Setting(
            parsing.log_format,
            "`auto`, `json` or `text`",
            "`auto`: text on a terminal, JSON elsewhere",
            "How log events are written to standard error. See [logs.md](logs.md) for their names and fields.",
        ),
        "log_level": Setting(
            parsing.log_level, "`debug`, `info`, `warning` or `error`", "`info`", "The lowest level that is logged."
        ),
    },
    "Sign in": {
        "issuer": Setting(
            parsing.issuer,
            "an https URL (http on loopback only), exactly as the provider spells it",
            "none: the built-in OpenID provider",
            "An OpenID Connect provider whose access tokens are accepted instead of the built-in provider's, for example an "
            "Amazon Cognito user pool. Its keys are found through `/.well-known/openid-configuration`. Requires `audience`. "
            "See [identity.md](identity.md).",
        ),
        "jwks_url": Setting(
            parsing.issuer,
            "an https URL (http on loopback only)",
            "from the issuer's discovery document",
            "With `issuer`: the URL of its signing keys (JWKS), for example behind a private endpoint. The server at this URL"
            " decides which tokens are valid.",
        ),
        "audience": Setting(
            parsing.words,
            "words, separated by commas",
            "none",
            "The accepted audiences; required with `issuer`. A token must have one of them in `aud` or, when it has no `aud`,"
            " as its `client_id`.",
        ),
    },
    "Keep data": {
        "data": Setting(
            parsing.directory,
            "a directory",
            "`./postroom-data`",
            "The directory of the embedded backend: databases, objects, journals. Created when missing. It must be on a local"
            " file system. A relative path starts at the working directory; in `postroom.toml`, at that file.",
        ),
        "platform": Setting(
            parsing.platform,
            "`embedded` or `aws`",
            "`embedded`",
            "The backend: this machine, or a stack that `postroom deploy` created. With `aws` the command line works on that "
            "stack; the `aws_…` settings name its resources, and the extra `postroom[aws]` must be installed.",
        ),
        "master_key": Setting(
            parsing.master_keys,
            "32 bytes in base64; several separated by commas",
            "the file `master_key_file`",
            "The key that encrypts all others: provider passwords, second factors, signing keys and uploaded recipient files are "
            "encrypted under it. The first key encrypts; further ones are older keys that still decrypt.",
        ),
        "master_key_file": Setting(
            parsing.directory,
            "a file that only its owner can read",
            "`master.key` in the data directory, created when missing",
            "Where the master key is kept when `master_key` is not set. Without it, encrypted data is lost: keep a copy.",
        ),
        "upload_days": Setting(
            parsing.count(1, 3_650),
            "1 to 3650",
            "`30`",
            "Days after which an uploaded recipients file is deleted. An upload that never arrived is deleted after one day.",
        ),
        "retention_days": Setting(
            parsing.count(1, 36_500),
            "1 to 36500",
            "none: forever",
            "Days after which an ended campaign, and single messages, are deleted with all data about their recipients. The "
            "suppression list is kept.",
        ),
    },
    "Use a stack on AWS": {
        "aws_table": Setting(parsing.aws_name, "a name", "none", "The DynamoDB table."),
        "aws_bucket": Setting(parsing.aws_name, "a name", "none", "The S3 bucket."),
        "aws_queues": Setting(parsing.aws_arn("sqs"), "the common start of the ARNs of its SQS queues", "none", "The queues."),
        "aws_key": Setting(
            parsing.aws_arns("kms"),
            "the ARN of a KMS key; several separated by commas",
            "none",
            "The master key that encrypts secrets, followed by the keys it replaced, which still decrypt. KMS's own rotation "
            "needs no entry here.",
        ),
        "aws_machines": Setting(
            parsing.aws_arn("states"),
            "the common start of the ARNs of its Step Functions state machines",
            "none",
            "The state machines.",
        ),
        "aws_schedules": Setting(parsing.aws_name, "a name", "none", "The group of the stack's EventBridge schedules."),
        "aws_schedule_role": Setting(
            parsing.aws_arn("iam"),
            "the ARN of a role",
            "none",
            "The role with which EventBridge Scheduler sends messages to the stack's queue.",
        ),
        "aws_user_pool": Setting(parsing.aws_name, "an id", "none", "The Cognito user pool in which people sign in."),
        "aws_usage_key": Setting(
            parsing.aws_name,
            "20 to 128 letters, digits, `_`, `.` and `-`",
            "none: no usage plan",
            "The API Gateway key under whose usage plan authorized calls are counted.",
        ),
        "aws_search": Setting(
            parsing.public_url, "an https URL", "none: no search index", "The endpoint of the OpenSearch domain."
        ),
        "aws_pagerduty": Setting(
            parsing.aws_secret,
            "the name or ARN of a secret",
            "none: no PagerDuty",
            "The secret in AWS Secrets Manager that holds PagerDuty's routing key (Events API v2).",
        ),
    },
}
"""By task, in the order of the reference."""
SETTINGS: dict[str, Setting] = {name: setting for group in GROUPS.values() for name, setting in group.items()}
"""By field name of `Settings`."""
