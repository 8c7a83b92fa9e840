"""To the Hugging Face Hub and back: one commit up, and down only what the manifest lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.errors import DupqError, ModelFolderError, OutputError
from dupq.models.safety import read_json
from dupq.sharing.card import CARD, render_card
from dupq.sharing.folder import open_folder, read_report
from dupq.sharing.manifest import MANIFEST, PAGES, REPORT, read_manifest, with_checksum

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Token = str | bool | None
"""A token; True: the stored one or HF_TOKEN, which must be there; None: the same, if it is there; False: none."""

STOCK_FILES = ("*.json", "*.safetensors", "*.txt")
STOCK_IGNORED = ("onnx/*", "openvino/*", "coreml/*")
"""Of a repository without `dupq.json`: what a network of sentence-transformers consists of, without its other forms."""

_LOG_IN = "log in (`hf auth login`), or set HF_TOKEN"


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    Attributes:
        repository: The full id, owner/name.
        commit: The hash of the commit, which `revision=` takes.
        url: The commit's page.
        files: How many files it holds.
    """

    repository: str
    commit: str
    url: str
    files: int


def fetch(name: str, revision: str | None = None, token: Token = None, pages: bool = False) -> Path:
    """The folder of a Hub repository in the local cache, fetched as far as it is not there.

    Of a pipeline only what `dupq.json` lists is fetched, of any other repository only what `STOCK_FILES` names: no
    pickle and no code ever arrives. Without a network, what was fetched before is used.

    Args:
        name: owner/name.
        revision: Branch, tag or commit.
        token: See `Token`.
        pages: Fetch the files for people too.

    Raises:
        ModelFolderError: The Hub does not give it, or its manifest is damaged; says why and what to do.
    """
    api = _api(token)
    with _told(ModelFolderError, name, revision, token):
        folder = Path(api.snapshot_download(name, revision=revision, allow_patterns=[MANIFEST]))
        if (folder / MANIFEST).is_file():
            files = read_manifest(folder)["files"]
            wanted = [path for path in files if pages or Path(path).suffix not in PAGES]
            ignored = None
        else:
            wanted, ignored = list(STOCK_FILES), list(STOCK_IGNORED)
        # By its hash, so that a push in the meantime does not mix two revisions.
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
    """Puts a pipeline folder on the Hub in one commit: exactly what its manifest lists.

    Files of an earlier pipeline that this one lacks go in the same commit; whatever else the repository holds stays.
    Interrupted, it leaves the repository as it was; run again, it does not send large files twice.

    Args:
        folder: A pipeline folder; verified first.
        name: owner/name, or a name of your own; made if it is not there.
        private: True: made private, and a public repository of that name is refused. None: as the account has it.
        branch: Made if it is not there; the default branch if None.
        tag: Set on the commit; must be new.
        token: See `Token`.
        message: Of the commit.

    Raises:
        ModelFolderError: The folder is damaged or was altered, its card included.
        OutputError: The Hub does not take it; says why and what to do. Nothing of it is visible there then.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    folder = Path(folder)
    content = open_folder(folder)
    api = _api(token)
    with _told(OutputError, name, branch, token):
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        if private and not api.model_info(repository).private:
            raise OutputError("this repository is there already, and public", where=name, mend="name another")
        if tag is not None and tag in {ref.name for ref in api.list_repo_refs(repository).tags}:
            raise OutputError(f"it has a tag {tag} already", where=name, mend="name a new tag")
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
            api.create_tag(repository, tag=tag, revision=commit.oid)
    return Pushed(repository, commit.oid, commit.commit_url, len(sources))


def _sources(folder: Path, content: dict[str, Any], repository: str) -> dict[str, Path | bytes]:
    """What is uploaded: the listed files, a card that names the repository, and a manifest that knows that card."""
    report = read_report(folder) if REPORT in content["files"] else None
    card = render_card(content, report, repository).encode()
    files = {**content["files"], CARD: hashlib.sha256(card).hexdigest()}
    sealed = json.dumps(with_checksum({**content, "files": files}), indent=1, ensure_ascii=False) + "\n"
    return {**{path: folder / path for path in files}, CARD: card, MANIFEST: sealed.encode()}


def _earlier_files(api: HfApi, repository: str, revision: str | None) -> set[str]:
    """What the manifest there lists of what is there."""
    there = set(api.list_repo_files(repository, revision=revision))
    if MANIFEST not in there:
        return set()
    try:
        earlier = read_json(Path(api.hf_hub_download(repository, MANIFEST, revision=revision)))
    except ModelFolderError:
        return set()
    files = earlier.get("files") if isinstance(earlier, dict) else None
    return there & set(files) if isinstance(files, dict) else set()


def _api(token: Token) -> HfApi:
    from huggingface_hub import HfApi

    from dupq import __version__

    return HfApi(token=token, library_name="dupq", library_version=__version__)


@contextmanager
def _told(kind: type[DupqError], name: str, revision: str | None, token: Token) -> Iterator[None]:
    """Whatever goes wrong with the Hub becomes one error of this kind that says what, and what to do."""
    from huggingface_hub.errors import HTTPError, XetDownloadError  # type: ignore[attr-defined]

    try:
        yield
    except DupqError:
        raise
    # The client raises its own errors, those of httpx, of the disk, and RuntimeError for what fails in its threads.
    except (HTTPError, XetDownloadError, OSError, ValueError, RuntimeError) as error:
        problem, mend = _diagnosis(error, revision, token)
        raise kind(problem, where=name, mend=mend) from error


def _diagnosis(error: BaseException, revision: str | None, token: Token) -> tuple[str, str]:
    from huggingface_hub import errors, get_token

    known = token if isinstance(token, str) else (None if token is False else get_token())
    chain = list(_chain(error))
    for kind, problem, mend in (
        (errors.OfflineModeIsEnabled, "it is not in the cache, and HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"),
        (errors.LocalTokenNotFoundError, "no token is stored here", _LOG_IN),
        (errors.HFValidationError, "this is neither a folder here nor a Hub id", "write a Hub id as owner/name"),
        (errors.RevisionNotFoundError, f"it has no revision {revision!r}", "name a branch, a tag or a commit of it"),
        (
            errors.GatedRepoError,
            "it is gated, and this account has no access" if known else "it is gated, and no token is set",
            "ask for access on its page on the Hub" if known else f"ask for access on its page, and {_LOG_IN}",
        ),
        (
            errors.RepositoryNotFoundError,
            "it is neither a folder here nor a repository of the Hub that "
            + ("this token opens" if known else "is open to all"),
            "check the name; for a private one " + ("use its owner's token" if known else _LOG_IN),
        ),
    ):
        if any(isinstance(one, kind) for one in chain):
            return problem, mend
    for one in chain:
        if isinstance(one, errors.HfHubHTTPError):
            return _answer(one.response.status_code, bool(known), _first_line(one))
    for one in chain:
        if isinstance(one, errors.HTTPError):  # type: ignore[attr-defined]
            return f"the Hub cannot be reached ({_first_line(one)})", "check the network, or HF_ENDPOINT if it is set"
    return f"the Hub's client failed ({_first_line(error)})", "try again"


def _answer(status: int, token: bool, detail: str) -> tuple[str, str]:
    if status == 401:
        if token:
            return "the Hub does not know this token", f"{_LOG_IN} with a valid one"
        return "the Hub asks for a token, and none is set", _LOG_IN
    if status == 403:
        return "this token does not allow it", "use a token that may write to this repository"
    if status in (409, 412):
        return "somebody else has pushed to it meanwhile", "push again"
    passing = status == 429 or status >= 500
    return f"the Hub answered {status} ({detail})", "try again later" if passing else "see what it says"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
