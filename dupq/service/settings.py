"""Settings of the service, from flags, the environment and a TOML file.

The sources are used in this order; the variables of the environment are `DUPQ_SERVE_...`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from dupq.errors import InputError

PREFIX = "DUPQ_SERVE_"
MASK = "**********"

Secret = Annotated[SecretStr, Field(min_length=1)]


class ServiceSettings(BaseSettings):
    """Settings of `dupq serve`.

    Attributes:
        db: Index: a file, or a URL of PostgreSQL.
        model: Pipeline folder or Hub id; None: the shipped model.
        host, port: Address to listen on. Beyond loopback the service starts only with at least one token.
        threads: Processor threads of the model; None: all.
        batch: Pairs or texts that the model reads at once.
        max_waiting: Pairs and texts that may wait for the model; above it a request is answered with 429.
        max_body_bytes: Largest body of a request.
        rate_limit: Requests a second of one token, on average; 0: no limit.
        rate_burst: Requests of one token at once.
        session_hours: Hours after which a session of the review page ends.
        secure_cookies: Send the session's cookie over HTTPS only; set it behind a proxy with TLS.
        stop_seconds: Seconds that requests in progress get when the service stops.
        decide_new: Decide new questions against all others, which fills the review queue.
        workers: Threads that run jobs.
        question_text: Parts of a post of Discourse or GitHub that the networks read: "title", as `dupq index sync`
            does by default, or "title+body".
        discourse_ids: Ids of topics: "full" is `discourse:HOST:NUMBER`, which many forums can share; "topic" is the
            number, as `dupq index sync --discourse-export` stores it.
        discourse_secret, github_secret, generic_secret: Secrets of incoming webhooks; None: the webhook is refused.
        generic_fields: Field of a question (id, text, title, body, tags, url, created, version, deleted) -> its path in
            the body of a generic webhook, such as "post.title".
        webhook_urls: Addresses that get the events of this service.
        webhook_secret: Secret of outgoing webhooks (Standard Webhooks, `whsec_` and base64).
        allow_private_webhooks: Send events to private addresses too.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, toml_file=None
    )

    db: str = Field("forum.db", min_length=1)
    model: str | None = None
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8080, ge=0, le=65535)
    threads: int | None = Field(None, ge=1)
    batch: int = Field(32, ge=1, le=1024)
    max_waiting: int = Field(2048, ge=1)
    max_body_bytes: int = Field(16_000_000, ge=1024)
    rate_limit: float = Field(100.0, ge=0, allow_inf_nan=False)
    rate_burst: int = Field(200, ge=1)
    session_hours: float = Field(12.0, gt=0, allow_inf_nan=False)
    secure_cookies: bool = False
    stop_seconds: float = Field(30.0, ge=0, allow_inf_nan=False)
    decide_new: bool = True
    workers: int = Field(1, ge=0, le=64)
    question_text: Literal["title", "title+body"] = "title"
    discourse_ids: Literal["full", "topic"] = "full"
    discourse_secret: Secret | None = None
    github_secret: Secret | None = None
    generic_secret: Secret | None = None
    generic_fields: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    webhook_urls: Annotated[tuple[str, ...], NoDecode] = ()
    webhook_secret: Secret | None = None
    allow_private_webhooks: bool = False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("webhook_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Split the addresses of an environment variable at spaces and commas."""
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("generic_fields", mode="before")
    @classmethod
    def _read_json(cls, value: object) -> object:
        """Read the JSON object of an environment variable."""
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError("Input should be a JSON object") from None

    @property
    def on_loopback(self) -> bool:
        """True if only this machine can reach the service."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def load_settings(flags: Mapping[str, Any], file: str | Path | None = None) -> ServiceSettings:
    """Return the settings of flags, environment and file.

    The first source that has a name gives its value.

    Args:
        flags: Name -> value of those that were given.
        file: TOML file with the names as its keys; None: no file.

    Raises:
        InputError: A name is unknown, a value is unfit, or the file cannot be read.
    """
    found = _sources(flags, file)
    unknown = [name for name in found if name not in ServiceSettings.model_fields]
    if unknown:
        close = get_close_matches(unknown[0], ServiceSettings.model_fields, 1)
        raise InputError(
            f"a setting must be one that dupq serve --print-settings shows, got {unknown[0]!r:.60}",
            location=found[unknown[0]],
            hint=f"did you mean {close[0]}?" if close else "remove it",
        )
    try:
        return _with_file(file)(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        secret = isinstance(first["input"], SecretStr) or name.endswith("secret")
        wanted = first["msg"].removeprefix("Value error, ").partition(", unable to")[0]
        wanted = re.sub(r"^\w+ should", "must", wanted)
        got = "a value that is not shown" if secret else f"{first['input']!r:.60}"
        raise InputError(
            f"{'.'.join(map(str, first['loc']))} {wanted}, got {got}",
            location=found.get(name),
            hint="see the settings in the documentation of dupq serve",
        ) from None


def sources(flags: Mapping[str, Any], file: str | Path | None = None) -> dict[str, str]:
    """Return the source of each setting.

    It is "default" for those that no source names.
    """
    return dict.fromkeys(ServiceSettings.model_fields, "default") | _sources(flags, file)


def shown(settings: ServiceSettings) -> dict[str, Any]:
    """Return the settings as JSON can hold them, with their secrets masked."""
    values = settings.model_dump()
    for name, value in values.items():
        if isinstance(value, SecretStr):
            values[name] = MASK
    return values | {
        "db": masked_url(settings.db),
        "webhook_urls": [masked_url(url) for url in settings.webhook_urls],
    }


def masked_url(url: str) -> str:
    """Return a URL with its password and query masked.

    A path is returned unchanged.
    """
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    user, at, place = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{':' + MASK if colon else ''}{at}{place}"
    return parts._replace(netloc=netloc, query=MASK if parts.query else "", fragment="").geturl()


def _with_file(file: str | Path | None) -> type[ServiceSettings]:
    class WithFile(ServiceSettings):
        model_config = SettingsConfigDict(toml_file=file)

    return WithFile


def _sources(flags: Mapping[str, Any], file: str | Path | None) -> dict[str, str]:
    """Return the name of each setting that a source holds -> the first such source."""
    found = dict.fromkeys(_file_names(file), str(file)) if file is not None else {}
    for variable in os.environ:
        if variable.upper().startswith(PREFIX) and os.environ[variable]:
            found[variable[len(PREFIX) :].lower()] = f"environment variable {variable}"
    return found | {name: f"flag --{name.replace('_', '-')}" for name in flags}


def _file_names(file: str | Path) -> list[str]:
    place = str(file)
    if not Path(file).is_file():
        raise InputError("the file of the settings must exist", location=place, hint="check --settings")
    try:
        return list(TomlConfigSettingsSource(ServiceSettings, Path(file)).toml_data)
    except ValueError as error:  # no TOML, or no UTF-8
        raise InputError(
            f"the settings must be TOML: {error}", location=place, hint='write lines of: name = "value"'
        ) from None
