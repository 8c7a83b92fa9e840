"""A small Hugging Face Hub on 127.0.0.1, so that the unmodified `huggingface_hub` client speaks to a server over HTTP.

It holds repositories with commits, branches, tags and large files in memory, and knows tokens, private and gated
repositories. What it does not prove is told in `docs/how-to/share-on-the-hub.md`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".onnx")
"""Files with these endings are sent by the LFS protocol, as the Hub's default .gitattributes has it."""


@dataclass
class File:
    content: bytes
    large: bool

    @property
    def etag(self) -> str:
        if self.large:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, File], title: str) -> str:
        digest = hashlib.sha1(f"{len(self.commits)}{title}{sorted(files)}".encode()).hexdigest()
        self.commits[digest] = files
        self.branches[branch] = digest
        self.titles.append(title)
        return digest

    def find(self, revision: str) -> str | None:
        found = self.branches.get(revision) or self.tags.get(revision)
        return found or (revision if revision in self.commits else None)


class RefusalError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", **body: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.body = status, code, message, body


class Hub:
    """The state, and one method a route.

    Attributes:
        tokens: Token -> user.
        repositories: owner/name -> repository.
        large: SHA-256 -> content of each large file that has arrived.
        requests: Method and path of each request, in order.
        before: Called with method and path before each request is answered; may raise `RefusalError`, or return True to
            drop the connection.
        tamper: Called with path and content of each file that is served; gives what is sent instead.
    """

    def __init__(self) -> None:
        self.tokens = {"hf_good": "me", "hf_other": "other"}
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.before: Callable[[str, str], bool | None] = lambda method, path: None
        self.tamper: Callable[[str, bytes], bytes] = lambda path, content: content
        self.url = ""

    def put(self, name: str, folder: Path) -> None:
        """Commits a folder as it is."""
        repository = self.repositories.setdefault(name, Repository())
        files = {
            path.relative_to(folder).as_posix(): File(path.read_bytes(), path.suffix in LARGE)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        repository.commit("main", {".gitattributes": File(b"", False), **files}, "put here")

    # Each route: a pattern of the path, and what answers.
    def answer(self, method: str, path: str, body: bytes, user: str | None) -> tuple[int, dict[str, str], bytes]:
        for pattern, route in (
            (r"POST /api/repos/create", self.create),
            (r"POST /api/validate-yaml", self.validate),
            (r"POST /(?P<name>.+)\.git/info/lfs/objects/batch", self.batch),
            (r"PUT /large/(?P<oid>\w+)", self.upload),
            (r"(?:GET|HEAD) /large/(?P<oid>\w+)", self.download_large),
            (r"GET /api/models/(?P<name>[^/]+/[^/]+)/refs", self.refs),
            (r"GET /api/models/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)", self.tree),
            (r"GET /api/models/(?P<name>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?", self.info),
            (r"POST /api/models/(?P<name>[^/]+/[^/]+)/branch/(?P<branch>[^/]+)", self.branch),
            (r"POST /api/models/(?P<name>[^/]+/[^/]+)/tag/(?P<revision>[^/]+)", self.tag),
            (r"POST /api/models/(?P<name>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", self.preupload),
            (r"POST /api/models/(?P<name>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", self.commit),
            (r"(?:GET|HEAD) /(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", self.download),
        ):
            found = re.fullmatch(pattern, f"{method} {path}")
            if found:
                parts = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                result = route(body=body, user=user, **parts)
                if isinstance(result, tuple):
                    return result
                return 200, {"Content-Type": "application/json"}, json.dumps(result).encode()
        raise RefusalError(404, message=f"no such route: {method} {path}")

    def repository(self, name: str, user: str | None, write: bool = False, file: bool = False) -> Repository:
        found, owner = self.repositories.get(name), name.split("/")[0]
        if found is None or (found.private and user != owner):
            raise RefusalError(401 if user is None else 404, "RepoNotFound", "Repository not found")
        if write and user != owner:
            raise RefusalError(401 if user is None else 403, message="You have no write access")
        if file and found.gated and user != owner:
            raise RefusalError(401 if user is None else 403, "GatedRepo", "Access to this model is restricted")
        return found

    def files(self, name: str, revision: str, user: str | None, file: bool = False) -> tuple[str, dict[str, File]]:
        repository = self.repository(name, user, file=file)
        commit = repository.find(revision)
        if commit is None:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository.commits[commit]

    def create(self, body: bytes, user: str | None) -> Any:
        asked = json.loads(body)
        if user is None:
            raise RefusalError(401, message="Invalid username or password.")
        name = f"{asked.get('organization') or user}/{asked['name']}"
        if name.split("/")[0] != user:
            raise RefusalError(403, message="You don't have the rights to create a model under this namespace")
        if name in self.repositories:
            raise RefusalError(409, message="You already created this model repo", url=f"{self.url}/{name}")
        repository = Repository(private=asked.get("visibility") == "private" or bool(asked.get("private")))
        repository.commit("main", {".gitattributes": File(b"*.safetensors filter=lfs\n", False)}, "initial commit")
        self.repositories[name] = repository
        return {"url": f"{self.url}/{name}", "name": name, "id": "1"}

    def validate(self, body: bytes, user: str | None) -> Any:
        import yaml

        text = json.loads(body)["content"]
        head = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        errors = [] if head and isinstance(yaml.safe_load(head[1]), dict) else [{"message": "no metadata"}]
        return {"errors": errors, "warnings": []}

    def info(self, body: bytes, user: str | None, name: str, revision: str = "main") -> Any:
        commit, files = self.files(name, revision, user)
        repository = self.repositories[name]
        return {
            "_id": "1",
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": repository.private,
            "gated": "manual" if repository.gated else False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in files],
        }

    def tree(self, body: bytes, user: str | None, name: str, revision: str) -> Any:
        _, files = self.files(name, revision, user)
        listed = []
        for path, file in files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "oid": file.etag[:40], "size": len(file.content)}
            if file.large:
                entry["lfs"] = {"oid": file.etag, "size": len(file.content), "pointerSize": 134}
            listed.append(entry)
        return listed

    def refs(self, body: bytes, user: str | None, name: str) -> Any:
        repository = self.repository(name, user)
        return {
            kind: [{"name": ref, "ref": f"refs/{folder}/{ref}", "targetCommit": commit} for ref, commit in refs.items()]
            for kind, folder, refs in (
                ("branches", "heads", repository.branches),
                ("tags", "tags", repository.tags),
                ("converts", "convert", {}),
            )
        }

    def branch(self, body: bytes, user: str | None, name: str, branch: str) -> Any:
        repository = self.repository(name, user, write=True)
        if branch in repository.branches:
            raise RefusalError(409, message="Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        return {}

    def tag(self, body: bytes, user: str | None, name: str, revision: str) -> Any:
        repository = self.repository(name, user, write=True)
        tag, commit = json.loads(body)["tag"], repository.find(revision)
        if tag in repository.tags:
            raise RefusalError(409, message="Tag already exists")
        if commit is None:
            raise RefusalError(404, "RevisionNotFound")
        repository.tags[tag] = commit
        return {}

    def preupload(self, body: bytes, user: str | None, name: str, revision: str) -> Any:
        self.repository(name, user, write=True)
        _, there = self.files(name, revision, user)
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                    "oid": there[file["path"]].etag if file["path"] in there else None,
                }
                for file in json.loads(body)["files"]
            ]
        }

    def batch(self, body: bytes, user: str | None, name: str) -> Any:
        self.repository(name, user, write=True)
        objects = []
        for asked in json.loads(body)["objects"]:
            entry = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.large:
                entry["actions"] = {"upload": {"href": f"{self.url}/large/{asked['oid']}"}}
            objects.append(entry)
        return {"transfer": "basic", "objects": objects}

    def upload(self, body: bytes, user: str | None, oid: str) -> Any:
        if hashlib.sha256(body).hexdigest() != oid:
            raise RefusalError(400, message="the content does not match its hash")
        self.large[oid] = body
        return {}

    def commit(self, body: bytes, user: str | None, name: str, revision: str) -> Any:
        repository = self.repository(name, user, write=True)
        parent, files = self.files(name, revision, user)
        files = dict(files)
        title = ""
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit", parent) != parent:
                    raise RefusalError(412, message="A commit has happened since. Please refresh and try again.")
            elif item["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif item["key"] == "lfsFile":
                files[value["path"]] = File(self.large[value["oid"]], True)
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(revision, files, title)
        return {"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit}

    def download(self, body: bytes, user: str | None, name: str, revision: str, path: str) -> Any:
        commit, files = self.files(name, revision, user, file=True)
        if path not in files:
            raise RefusalError(404, "EntryNotFound", "Entry not found")
        file = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.etag}"'}
        if file.large:
            headers |= {"X-Linked-ETag": f'"{file.etag}"', "X-Linked-Size": str(len(file.content))}
            self.large[file.etag] = file.content
            # Another host, as the Hub's own large files have: the client must not send its token there.
            elsewhere = self.url.replace("127.0.0.1", "localhost")
            return 302, {**headers, "Location": f"{elsewhere}/large/{file.etag}"}, b""
        return 200, headers, self.tamper(path, file.content)

    def download_large(self, body: bytes, user: str | None, oid: str) -> Any:
        if user is not None:
            raise RefusalError(400, message="a token was sent to another host")
        return 200, {"ETag": f'"{oid}"'}, self.tamper(oid, self.large[oid])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_one(self) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self.chunks())
        hub.requests.append(f"{self.command} {path}")
        try:
            if hub.before(self.command, path):
                self.close_connection = True
                return
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if token and token not in hub.tokens:
                raise RefusalError(401, message="Invalid credentials in Authorization header")
            status, headers, content = hub.answer(self.command, path, body, hub.tokens.get(token))
        except RefusalError as refusal:
            status, content = refusal.status, json.dumps({"error": refusal.message, **refusal.body}).encode()
            headers = {"Content-Type": "application/json", "X-Error-Message": refusal.message}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    do_GET = do_HEAD = do_POST = do_PUT = handle_one  # noqa: N815


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
