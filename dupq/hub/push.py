"""Push a pipeline folder to the Hugging Face Hub, and fetch one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.errors import DupqError, InputError, ModelFolderError, OutputError
from dupq.hub.card import CARD, render_card
from dupq.hub.folder import open_folder, read_report
from dupq.hub.manifest import MANIFEST, PAGES, REPORT, read_manifest, with_checksum
from dupq.models.safety import read_json

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Token = str | bool | None
"""A token; True: the stored one or HF_TOKEN, which must be there; None: the same, if it is there; False: none."""

STOCK_FILES = ("*.json", "*.safetensors", "*.txt")
STOCK_IGNORED = ("onnx/*", "openvino/*", "coreml/*")
"""Files of a network of sentence-transformers, and its other forms, in a repository without `dupq.json`."""

_NO_TAG = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|(^|/)\.|\.lock(/|$)|^[-/]|[./]$|^@?$"  # git check-ref-format
)
"""Pattern that is found in every name that git refuses for a tag."""

_LOG_IN = "log in (`hf auth login`), or set HF_TOKEN"


@dataclass(frozen=True, slots=True)
class Pushed:
    """Result of a push.

    Attributes:
        repository: The full id, owner/name.
        commit: The hash of the commit, which `revision=` takes.
        url: The commit's page.
        files: Number of files in the commit.
    """

    repository: str
    commit: str
    url: str
    files: int


def fetch(name: str, revision: str | None = None, token: Token = None, pages: bool = False) -> Path:
    """Fetch a Hub repository to the local cache, and return its folder there.

    Only the files that `dupq.json` lists are fetched, or `STOCK_FILES` in a repository without it: no pickle and no
    code. Offline, the files in the cache are used.

    Args:
        name: owner/name.
        revision: Branch, tag or commit.
        token: See `Token`.
        pages: Fetch the files for people too.

    Raises:
        ModelFolderError: The Hub refuses it, or its manifest is damaged; with the reason and a hint.
    """
    api = _api(token)
    with _hub_errors(ModelFolderError, name, revision, token):
        folder = Path(api.snapshot_download(name, revision=revision, allow_patterns=[MANIFEST]))
        if (folder / MANIFEST).is_file():
            files = read_manifest(folder)["files"]
            wanted = [path for path in files if pages or Path(path).suffix not in PAGES]
            ignored = None
        else:
            wanted, ignored = list(STOCK_FILES), list(STOCK_IGNORED)
        # Named by its hash, so that a push in the meantime does not mix two revisions.
        commit = folder.name
        return Path(api.snapshot_download(name, revision=commit, allow_patterns=wanted, ignore_patterns=ignored))


def push(
    folder: str | Path,
    name: str,
    *,
    private: bool | None = None,
    branch: str | None = None,
    tag: str | None = None,
    token: Token = None,
    message: str | None = None,
) -> Pushed:
    """Push a pipeline folder to the Hub in one commit.

    It holds exactly the files that the manifest lists. Files of an earlier pipeline that this one lacks are deleted in
    the same commit; other files of the repository stay. A push that is interrupted before its commit leaves all files
    as they were; a second push does not send large files again.

    Args:
        folder: A pipeline folder; verified first.
        name: owner/name, or a name of your own; made if it is not there.
        private: True: made private, and a public repository of that name is refused. None: the account's default.
        branch: Made if it is not there; the default branch if None.
        tag: Tag to set on the commit; must be new, and a valid name in git.
        token: See `Token`.
        message: Message of the commit.

    Raises:
        InputError: The tag is no valid name in git.
        ModelFolderError: The folder is damaged or was altered, its card included.
        OutputError: The Hub refuses it; with the reason and a hint. All files stay as they were, unless only the
            tag could not be set: then the error names the commit.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    if tag is not None and _NO_TAG.search(tag):
        raise InputError(f"tag must be a valid name in git, got {tag!r:.80}", hint="give one such as v1.0")
    folder = Path(folder)
    content = open_folder(folder)
    api = _api(token)
    with _hub_errors(OutputError, name, branch, token):
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        if private and not api.model_info(repository).private:
            raise OutputError("this repository is there already, and public", location=name, hint="name another")
        if tag is not None and tag in {ref.name for ref in api.list_repo_refs(repository).tags}:
            raise OutputError(f"it has a tag {tag} already", location=name, hint="name a new tag")
        if branch is not None:
            api.create_branch(repository, branch=branch, exist_ok=True)
        parent = api.model_info(repository, revision=branch).sha
        sources = _sources(folder, content, repository)
        gone = _earlier_files(api, repository, parent) - set(sources)
        commit = api.create_commit(
            repository,
            [
                *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=source) for path, source in sources.items()),
                *(CommitOperationDelete(path_in_repo=path) for path in sorted(gone)),
            ],
            commit_message=message or "Share a dupq pipeline",
            revision=branch,
            parent_commit=parent,  # so that two who push at once do not mix their files
        )
    if tag is not None:
        try:
            with _hub_errors(OutputError, name, branch, token):
                api.create_tag(repository, tag=tag, revision=commit.oid)
        except OutputError as error:
            raise OutputError(
                f"the commit {commit.oid} was made, but its tag was not set ({_first_line(error.__cause__ or error)})",
                location=name,
                hint=f"set it with huggingface_hub.create_tag({repository!r}, tag={tag!r}, revision={commit.oid!r})",
            ) from error
    return Pushed(repository, commit.oid, commit.commit_url, len(sources))


def _sources(folder: Path, content: dict[str, Any], repository: str) -> dict[str, Path | bytes]:
    """Return the files to upload; the card names the repository."""
    report = read_report(folder) if REPORT in content["files"] else None
    card = render_card(content, report, repository).encode()
    files = {**content["files"], CARD: hashlib.sha256(card).hexdigest()}
    manifest = json.dumps(with_checksum({**content, "files": files}), indent=1, ensure_ascii=False) + "\n"
    return {**{path: folder / path for path in files}, CARD: card, MANIFEST: manifest.encode()}


def _earlier_files(api: HfApi, repository: str, revision: str | None) -> set[str]:
    """Return the files of the repository that its manifest lists."""
    present = set(api.list_repo_files(repository, revision=revision))
    if MANIFEST not in present:
        return set()
    try:
        earlier = read_json(Path(api.hf_hub_download(repository, MANIFEST, revision=revision)))
    except ModelFolderError:
        return set()
    files = earlier.get("files") if isinstance(earlier, dict) else None
    return present & set(files) if isinstance(files, dict) else set()


def _api(token: Token) -> HfApi:
    from huggingface_hub import HfApi

    from dupq.version import __version__

    return HfApi(token=token, library_name="dupq", library_version=__version__)


@contextmanager
def _hub_errors(kind: type[DupqError], name: str, revision: str | None, token: Token) -> Iterator[None]:
    """Turn every error of the Hub and its client into one of this kind."""
    from huggingface_hub.errors import HTTPError, XetDownloadError  # type: ignore[attr-defined]

    try:
        yield
    except DupqError:
        raise
    # The client raises its own errors, those of httpx and of the disk, and RuntimeError from its threads.
    except (HTTPError, XetDownloadError, OSError, ValueError, RuntimeError) as error:
        message, hint = _diagnosis(error, revision, token)
        if kind is ModelFolderError and not _is_answer(error):
            # A mistyped path looks like a Hub id, and then the network is not the cause.
            message, hint = f"there is no such folder here, and {message}", f"check the path; if it is a Hub id, {hint}"
        raise kind(message, location=name, hint=hint) from error


def _diagnosis(error: BaseException, revision: str | None, token: Token) -> tuple[str, str]:
    from huggingface_hub import errors, get_token

    used_token = token if isinstance(token, str) else (None if token is False else get_token())
    chain = list(_chain(error))
    for kind, message, hint in (
        (errors.OfflineModeIsEnabled, "it is not in the cache, and HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"),
        (errors.LocalTokenNotFoundError, "no token is stored here", _LOG_IN),
        (errors.HFValidationError, "this is neither a folder here nor a Hub id", "write a Hub id as owner/name"),
        (errors.RevisionNotFoundError, f"it has no revision {revision!r}", "name a branch, a tag or a commit of it"),
        (
            errors.GatedRepoError,
            "it is gated, and this account has no access" if used_token else "it is gated, and no token is set",
            "ask for access on its page on the Hub" if used_token else f"ask for access on its page, and {_LOG_IN}",
        ),
        (
            errors.RepositoryNotFoundError,
            "it is neither a folder here nor a repository of the Hub that "
            + ("this token opens" if used_token else "is open to all"),
            "check the name; for a private one " + ("use its owner's token" if used_token else _LOG_IN),
        ),
    ):
        if any(isinstance(one, kind) for one in chain):
            return message, hint
    for one in chain:
        if isinstance(one, errors.HfHubHTTPError):
            return _http_error(one.response.status_code, bool(used_token), _first_line(one))
    for one in chain:
        if isinstance(one, errors.HTTPError):  # type: ignore[attr-defined]
            return f"the Hub cannot be reached ({_first_line(one)})", "check the network, or HF_ENDPOINT if it is set"
    return f"the Hub's client failed ({_first_line(error)})", "try again"


def _is_answer(error: BaseException) -> bool:
    """Return True where the Hub answered, False where it could not be reached."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    return any(isinstance(one, (HfHubHTTPError, HFValidationError)) for one in _chain(error))


def _http_error(status: int, token: bool, detail: str) -> tuple[str, str]:
    if status == 401:
        if token:
            return "the Hub rejects this token", f"{_LOG_IN} with a valid one"
        return "the Hub requires a token, and none is set", _LOG_IN
    if status == 403:
        return "this token does not allow it", "use a token that may write to this repository"
    if status in (409, 412):
        return "somebody else has pushed to it meanwhile", "push again"
    temporary = status == 429 or status >= 500
    return f"the Hub answered {status} ({detail})", "try again later" if temporary else "read its answer"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
