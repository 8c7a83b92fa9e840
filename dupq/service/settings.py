"""Settings of the service: from flags, the environment (`DUPQ_SERVE_...`) and a TOML file, in this order."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


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

    model_config = SettingsConfigDict(env_prefix="DUPQ_SERVE_", extra="forbid", frozen=True, toml_file=None)

    db: str = "forum.db"
    model: str | None = None
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    threads: int | None = Field(None, ge=1)
    batch: int = Field(32, ge=1, le=1024)
    max_waiting: int = Field(2048, ge=1)
    max_body_bytes: int = Field(16_000_000, ge=1024)
    rate_limit: float = Field(100.0, ge=0)
    rate_burst: int = Field(200, ge=1)
    session_hours: float = Field(12.0, gt=0)
    secure_cookies: bool = False
    stop_seconds: float = Field(30.0, ge=0)
    decide_new: bool = True
    workers: int = Field(1, ge=0, le=64)
    question_text: Literal["title", "title+body"] = "title"
    discourse_ids: Literal["full", "topic"] = "full"
    discourse_secret: SecretStr | None = None
    github_secret: SecretStr | None = None
    generic_secret: SecretStr | None = None
    generic_fields: dict[str, str] = Field(default_factory=dict)
    webhook_urls: tuple[str, ...] = ()
    webhook_secret: SecretStr | None = None
    allow_private_webhooks: bool = False
