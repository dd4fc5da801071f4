"""SES as users write it: what is accepted, what is refused, and that no secret ever shows."""

from __future__ import annotations

import pytest

from postroom.errors import Invalid
from postroom.platform.mail.ses_url import SesConfig, parse_ses_url, with_environment_endpoint


def test_a_region_alone_is_enough() -> None:
    config = parse_ses_url("ses://eu-west-1")
    assert (config.region, config.configuration_set, config.access_key_id) == ("eu-west-1", None, None)
    assert (config.host, config.authority, config.port, config.encrypted) == (
        "email.eu-west-1.amazonaws.com",
        "email.eu-west-1.amazonaws.com",
        443,
        True,
    )
    assert parse_ses_url("ses://cn-north-1").host == "email.cn-north-1.amazonaws.com.cn"
    assert parse_ses_url("ses://us-gov-west-1").region == "us-gov-west-1"


def test_every_option_is_read() -> None:
    url = "ses://AKID:a%2Fb%2Bc@eu-west-1?configuration_set=news&endpoint=http://127.0.0.1:8025/&connections=8&connect_timeout=1"
    config = parse_ses_url(url + "&answer_timeout=2.5&idle=3")
    assert config == SesConfig(
        "eu-west-1",
        configuration_set="news",
        access_key_id="AKID",
        secret_access_key="a/b+c",
        endpoint="http://127.0.0.1:8025",
        connections=8,
        connect_s=1.0,
        answer_s=2.5,
        idle_s=3.0,
    )
    assert (config.authority, config.port, config.encrypted) == ("127.0.0.1:8025", 8025, False)
    assert "a/b+c" not in repr(config) + str(config)
    assert parse_ses_url("ses://eu-west-1?profile=mail").profile == "mail"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ses://", "needs a region"),
        ("ses://email.eu-west-1.amazonaws.com", "needs a region"),
        ("ses://eu-west-1:443", "needs a region"),
        ("ses://eu-west-1.evil.example/", "needs a region"),
        ("smtp://eu-west-1", "begins with smtp:"),
        ("ses://eu-west-1/path", "path or a fragment"),
        ("ses://AKID@eu-west-1", "id and secret, or neither"),
        ("ses://:secret@eu-west-1", "id and secret, or neither"),
        ("ses://A%0AKID:x@eu-west-1", "printable ASCII"),
        ("ses://A:b@eu-west-1?profile=p", "both profile= and an access key"),
        ("ses://eu-west-1?configuration_set=a%20b", "letters, digits"),
        ("ses://eu-west-1?endpoint=http://10.0.0.1", "http:// on this machine"),
        ("ses://eu-west-1?endpoint=https://host/path", "http:// on this machine"),
        ("ses://eu-west-1?endpoint=https://host:x", "http:// on this machine"),
        ("ses://eu-west-1?connections=0", "a whole number"),
        ("ses://eu-west-1?answer_timeout=0", "seconds, more than 0"),
        ("ses://eu-west-1?idle=5&idle=6", "twice"),
        ("ses://eu-west-1?retries=3", "unknown option 'retries'"),
        ("ses://[eu-west-1", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(url: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        parse_ses_url(url)


@pytest.mark.parametrize("url", ["ses://AKID:hunter2@nowhere", "ses://AKID:hunter2@eu-west-1?x=y", "ses://AKID:hunter2@[x"])
def test_no_error_shows_a_secret(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_ses_url(url)
    assert "hunter2" not in str(caught.value)


def test_a_tenant_brings_its_own_keys_and_names_nothing_of_the_servers() -> None:
    assert parse_ses_url("ses://AKID:x@eu-west-1?configuration_set=a", trusted=False).access_key_id == "AKID"
    for url in ("ses://eu-west-1", "ses://A:b@eu-west-1?endpoint=https://other.example", "ses://eu-west-1?profile=ops"):
        with pytest.raises(Invalid, match="operator"):
            parse_ses_url(url, trusted=False)


def test_awss_own_variables_name_an_endpoint_where_the_url_names_none() -> None:
    config, environ = parse_ses_url("ses://eu-west-1"), {"AWS_ENDPOINT_URL_SESV2": "https://vpce.example"}
    assert with_environment_endpoint(config, environ).host == "vpce.example"
    assert with_environment_endpoint(config, {"AWS_ENDPOINT_URL": "https://all.example"} | environ).host == "vpce.example"
    assert with_environment_endpoint(config, environ | {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}) == config
    assert with_environment_endpoint(parse_ses_url("ses://eu-west-1?endpoint=https://mine"), environ).host == "mine"
    with pytest.raises(Invalid, match="AWS_ENDPOINT_URL_SESV2"):
        with_environment_endpoint(config, {"AWS_ENDPOINT_URL_SESV2": "ftp://x"})
