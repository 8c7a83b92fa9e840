"""Someone who is logged in, and sends the forms of a page as a browser would."""

from __future__ import annotations

import html
import re

from fastapi.testclient import TestClient
from httpx2 import Response

from dupq.service.access import Role
from dupq.service.state import Service

CONTROL = re.compile(r"<(?:input|button)[^>]*>")
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')


class Person:
    """A session of a role; `text`, `status` and `path` are of the last page."""

    def __init__(self, service: Service, client: TestClient, role: Role = "admin", name: str = "Ada") -> None:
        caller = service.access.caller(service.access.create_token(name, role))
        assert caller is not None
        self.client = client
        self.headers = {"Cookie": f"dupq_session={service.access.start_session(caller)}"}
        self.text, self.status, self.path = "", 0, ""

    def get(self, path: str) -> str:
        return self._show(self.client.get(path, headers=self.headers, follow_redirects=False))

    def post(self, path: str, fields: dict[str, str]) -> str:
        return self._show(self.client.post(path, data=fields, headers=self.headers, follow_redirects=False))

    def _show(self, answer: Response) -> str:
        if answer.status_code == 303:
            return self.get(answer.headers["location"])
        self.text, self.status, self.path = answer.text, answer.status_code, answer.url.raw_path.decode()
        return self.text

    def forms(self, action: str) -> list[dict[str, str]]:
        """The fields of each form with an action, the first button among them."""
        found = re.findall(rf'<form[^>]*action="{action}"[^>]*>(.*?)</form>', self.text, re.DOTALL)
        return [_fields(inner) for inner in found]

    def send(self, action: str, place: int = 0, **more: str) -> str:
        return self.post(action, {**self.forms(action)[place], **more})


def _fields(inner: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for control in CONTROL.findall(inner):
        found = dict(ATTRIBUTE.findall(control))
        if "name" in found:
            fields.setdefault(found["name"], html.unescape(found.get("value", "")))
    return fields
