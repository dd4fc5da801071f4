"""Settings: what wins, what is refused, and that a refusal names the setting, a near match and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.errors import Invalid
from postroom.settings import SETTINGS, Platform, Settings, without_password


def load(toml: Path | None = None, /, **environ: str) -> Settings:
    return Settings.load(environ, toml, {})


def toml_file(directory: Path, text: str) -> Path:
    path = directory / "postroom.toml"
    path.write_text(text, "utf-8")
    return path


def refusal(**environ: str) -> str:
    with pytest.raises(Invalid) as caught:
        load(**environ)
    return str(caught.value)


def test_nothing_set_gives_the_documented_defaults() -> None:
    settings = load(PATH="/usr/bin")
    assert settings == Settings()
    assert settings.data == Path("postroom-data")
    assert settings.platform is Platform.EMBEDDED
    assert settings.mail == "inbox:"
    assert 1 <= settings.workers <= 4
    assert settings.rate is None
    assert (settings.lease, settings.drain, settings.give_up_after) == (15.0, 10.0, 172_800.0)


def test_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    file = toml_file(tmp_path, 'workers = 2\nrate = 5\ndrain = "1m"\n')
    environ = {"POSTROOM_WORKERS": "3", "POSTROOM_RATE": "7.5"}
    settings = Settings.load(environ, file, {"rate": 9, "data": None})
    assert (settings.workers, settings.rate, settings.drain) == (3, 9.0, 60.0)


def test_relative_data_in_the_file_starts_at_the_file(tmp_path: Path) -> None:
    assert load(toml_file(tmp_path, 'data = "mail"')).data == tmp_path / "mail"
    assert load(POSTROOM_DATA="mail").data == Path("mail")


def test_an_unknown_variable_names_the_near_match() -> None:
    assert refusal(POSTROOM_MIAL="inbox:") == "POSTROOM_MIAL is not a setting; did you mean POSTROOM_MAIL?"


def test_an_unknown_name_near_to_nothing_lists_the_settings() -> None:
    text = refusal(POSTROOM_ZZZZZZ="1")
    assert all(f"POSTROOM_{name.upper()}" in text for name in SETTINGS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "0"),
        ("WORKERS", "65"),
        ("WORKERS", "two"),
        ("RATE", "0"),
        ("RATE", "nan"),
        ("RATE", "inf"),
        ("LEASE", "1s"),
        ("LEASE", "forever"),
        ("DRAIN", "-1"),
        ("SETTLE_AFTER", "31d"),
        ("PLATFORM", "azure"),
        ("AWS_TABLE", "a table"),
        ("AWS_QUEUES", "postroom-prod-"),
        ("AWS_KEY", "arn:aws:s3:eu-west-1:111122223333:key/1"),
        ("MAIL", "smtp:relay.example"),
        ("MAIL", "smtp://"),
        ("MAIL", "sendmail"),
        ("MAIL", "ses:"),
        ("SES_TOPICS", "ses-notices"),
        ("PUBLIC_URL", "mail.example"),
        ("PUBLIC_URL", "ftp://mail.example"),
        ("PUBLIC_URL", "https://mail.example/?a=1"),
        ("PUBLIC_URL", "https://user@mail.example"),
        ("PUBLIC_URL", "https://bücher.example"),
        ("BOUNCE_DOMAIN", "localhost"),
        ("BOUNCE_DOMAIN", "192.0.2.1"),
        ("BOUNCE_DOMAIN", "-a.example"),
        ("DATA", "  "),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_what_is_allowed(name: str, value: str) -> None:
    text = refusal(**{f"POSTROOM_{name}": value})
    assert text.startswith(f"POSTROOM_{name} is ")
    assert SETTINGS[name.lower()].allowed in text


def test_a_stack_is_named_by_its_resources() -> None:
    queues = "arn:aws:sqs:eu-west-1:111122223333:postroom-prod-"
    settings = Settings.load({"POSTROOM_PLATFORM": "aws", "POSTROOM_AWS_QUEUES": queues}, None, {})
    assert settings.platform is Platform.AWS
    assert settings.aws_queues == queues


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({"POSTROOM_LEASE": "2m"}, "lease", 120.0),
        ({"POSTROOM_LEASE": "20"}, "lease", 20.0),
        ({"POSTROOM_GIVE_UP_AFTER": "1.5 H"}, "give_up_after", 5_400.0),
        ({"POSTROOM_PUBLIC_URL": "https://mail.example/x/"}, "public_url", "https://mail.example/x"),
        ({"POSTROOM_ISSUER": "https://id.example/"}, "issuer", "https://id.example/"),
        ({"POSTROOM_BOUNCE_DOMAIN": "Bounce.Example."}, "bounce_domain", "bounce.example"),
        (
            {"POSTROOM_SES_TOPICS": "arn:aws:sns:eu-west-1:123456789012:a, arn:aws-cn:sns:cn-north-1:123456789012:b"},
            "ses_topics",
            ("arn:aws:sns:eu-west-1:123456789012:a", "arn:aws-cn:sns:cn-north-1:123456789012:b"),
        ),
        ({"POSTROOM_MAIL": "ses://eu-west-1?configuration_set=x"}, "mail", "ses://eu-west-1?configuration_set=x"),
        ({"POSTROOM_MAIL": "smtp://u:p@relay.example:587?tls=starttls"}, "mail", "smtp://u:p@relay.example:587?tls=starttls"),
    ],
)
def test_good_values_are_read(given: dict[str, str], field: str, expected: object) -> None:
    assert getattr(load(**given), field) == expected


def test_a_child_process_is_given_the_same_settings(tmp_path: Path) -> None:
    """Whatever its own environment or file say, and with what its parent replaced."""
    mail = "smtps://u:p%40@relay.example"
    parent = Settings.load({"POSTROOM_RATE": "2.5", "POSTROOM_MAIL": mail}, None, {"data": tmp_path, "drain": "1m"})
    assert load(toml_file(tmp_path, "workers = 63\nlease = 900"), **parent.environ()) == parent
    assert load(**parent.environ(mail="smtp://127.0.0.1:2525")).mail == "smtp://127.0.0.1:2525"


def test_what_is_awss_is_handed_down_and_shown_to_nobody(tmp_path: Path) -> None:
    """The environment is read here alone, whoever needs it."""
    settings = load(AWS_PROFILE="mail", AWS_SECRET_ACCESS_KEY="hush", AWS_REGION="eu-west-1", HOME="/root", PATH="/usr/bin")
    assert dict(settings.aws.variables) == {"AWS_SECRET_ACCESS_KEY": "hush"}
    assert "hush" not in repr(settings) + str(settings.shown())
    with pytest.raises(TypeError):
        settings.aws.variables["HOME"] = "/"  # type: ignore[index]  # that it cannot is the point
    with pytest.raises(Invalid):
        load(toml_file(tmp_path, 'aws = "x"'))


@pytest.mark.parametrize("text", ["workers = true", "workers = [1]", "[data]\nx = 1", "wrokers = 1", "workers = ", "data = ''"])
def test_a_bad_file_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    file = toml_file(tmp_path, text)
    with pytest.raises(Invalid, match=r"postroom\.toml"):
        load(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        load(tmp_path / "absent.toml")


@pytest.mark.parametrize("password", ["secret", "se:c@r/et", "s%40crt"])
def test_a_password_is_never_shown(password: str) -> None:
    settings = load(POSTROOM_MAIL=f"smtp://user:{password}@relay.example:587")
    assert password not in repr(settings)
    assert password not in str(settings.shown())
    assert "smtp://user:***@relay.example:587" in settings.shown().values()
    assert password not in refusal(POSTROOM_MAIL=f"smpt://user:{password}@relay.example")


@pytest.mark.parametrize("password", ["secret", "se:c@r/et", "s%40crt"])
def test_a_mailbox_s_password_is_never_shown(password: str) -> None:
    settings = load(POSTROOM_FEEDBACK_MAILBOX=f"imaps://user:{password}@imap.example/INBOX")
    assert password not in repr(settings)
    assert "imaps://user:***@imap.example/INBOX" in settings.shown().values()
    assert password not in str(settings.shown())
    assert password not in refusal(POSTROOM_FEEDBACK_MAILBOX=f"imsp://user:{password}@imap.example")


def test_a_url_without_a_password_is_shown_as_it_is() -> None:
    assert without_password("smtp://relay.example:25?tls=none") == "smtp://relay.example:25?tls=none"
