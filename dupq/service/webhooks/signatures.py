"""Signatures of incoming webhooks, and the JSON of their bodies.

A signature is over the raw bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from pydantic import SecretStr

from dupq.service.problems import ProblemError

FORM = "application/x-www-form-urlencoded"
PREFIX = "sha256="


def signature_of(secret: str, body: bytes) -> str:
    """Return the header of a body: `sha256=` and the HMAC-SHA256 in hex."""
    return PREFIX + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def check_signature(secret: SecretStr | None, setting: str, body: bytes, given: str | None, header: str) -> None:
    """Raise ProblemError (403) unless a body was signed with the secret.

    Args:
        secret: The secret of the settings.
        setting: Its name.
        body: The raw bytes.
        given: Value of the header, or None.
        header: Name of the header, for the error.
    """
    value = secret.get_secret_value() if secret is not None else ""
    if not value:
        raise ProblemError(
            403,
            f"{setting} is not set, so no webhook is accepted here",
            hint=f"set DUPQ_SERVE_{setting.upper()} to the secret that the sender signs with",
        )
    if not given:
        raise ProblemError(
            403,
            f"the header {header} is missing",
            hint=f"give the sender the secret of {setting}; without one it does not sign",
        )
    # Bytes of any kind, compared in constant time.
    if not hmac.compare_digest(signature_of(value, body).encode(), given.strip().encode("utf-8", "surrogateescape")):
        raise ProblemError(
            403,
            f"the header {header} does not fit the body",
            hint=f"check that both sides have the same secret ({setting}), and that no proxy changes the body",
        )


def json_object(body: bytes, content_type: str | None) -> dict[str, Any]:
    """Return the JSON object of a body.

    GitHub sends forms with the JSON in the field `payload`. Discourse has a form's content type over plain JSON.

    Raises:
        ProblemError: 400: the body is no JSON object.
    """
    hint = "send one JSON object as application/json"
    text = body
    if (content_type or "").partition(";")[0].strip().lower() == FORM and not body.lstrip().startswith(b"{"):
        try:
            fields = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=20)
        except ValueError as error:  # UnicodeDecodeError too
            raise ProblemError(400, "the body is no form", hint=hint) from error
        if len(fields.get("payload", ())) != 1:
            raise ProblemError(400, "the form must have one field `payload`", hint=hint)
        text = fields["payload"][0].encode("utf-8", "surrogatepass")
    if not text.strip():
        raise ProblemError(400, "the body is empty", hint=hint)
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ProblemError(
            400, f"the body is no JSON ({str(error) or type(error).__name__:.100})", hint=hint
        ) from error
    if not isinstance(found, dict):
        raise ProblemError(400, f"the body must be a JSON object, got {type(found).__name__}", hint=hint)
    return found


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def member(body: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    """Return a member of an object that must be of a kind: int, str, bool or dict.

    Raises:
        ProblemError: 422: it is missing or of another kind.
    """
    value: Any = body.get(name)
    # JSON has no kind of its own for whole numbers; True is an int in Python only.
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if not fits or (kind is int and not 0 <= value < 2**63):
        names = {int: "a whole number of at least 0", str: "a text", bool: "true or false", dict: "an object"}
        raise ProblemError(
            422, f"{where}.{name} must be {names[kind]}, got {value!r:.60}", hint="see the documentation"
        )
    return value
