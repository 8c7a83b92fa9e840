"""Push and fetch on the wire: the unmodified client of huggingface_hub, a loopback Hub, and processes of their own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dupq.errors import InputError
from dupq.hub.folder import open_folder
from dupq.hub.push import _NO_TAG, push
from dupq.pipeline import DuplicatePipeline
from tests.hub.conftest import Answer, Run, RunSeveral, command, environment
from tests.hub.loopback import File, Hub, RefusalError

ID = "me/forum"


def told(result: Answer, *words: str) -> None:
    """One clear error, no traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, result.stderr


def done(result: Answer) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def files_of(hub: Hub, name: str = ID, revision: str = "main") -> dict[str, File]:
    repository = hub.repositories[name]
    commit = repository.find(revision)
    assert commit is not None
    return repository.commits[commit]


STRANGER = """
import json, sys
import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from huggingface_hub import snapshot_download
from dupq import DuplicatePipeline
from dupq.errors import NotCalibratedError
from dupq.models.scoring_options import with_symmetry

left, right = json.load(open(sys.argv[1]))
pipeline = DuplicatePipeline.from_pretrained("me/forum", revision="v1")
found = {"scores": [value.hex() for value in pipeline.raw_scores(left, right).tolist()]}
found["probabilities"] = [value.hex() for value in pipeline.probabilities(left, right).tolist()]
found["decisions"] = [str(result.decision) for result in pipeline.score_pairs(left, right)]
found["metrics"] = {name: metric.value for name, metric in pipeline.report.metrics.items()}

# A stranger's own loaders, on the id and on the parts.
pairs = [tuple(sorted(pair)) for pair in zip(left, right)]
stock = CrossEncoder("me/forum", device="cpu")
found["logits"] = stock.predict(pairs, activation_fn=torch.nn.Identity()).tolist()
found["ours"] = with_symmetry(pipeline.cross_encoder, "canonical").score(left, right).tolist()
bi_encoder = SentenceTransformer(snapshot_download("me/forum", revision="v1") + "/bi-encoder", device="cpu")
found["apart"] = float(np.abs(bi_encoder.encode(left) - pipeline.bi_encoder.embed(left)).max())

# A network without dupq.json.
uncalibrated = DuplicatePipeline.from_pretrained("me/stock")
found["stock"] = uncalibrated.raw_scores(left, right).tolist()
try:
    uncalibrated.score(left[0], right[0])
except NotCalibratedError as error:
    found["refusal"] = str(error)

again = pipeline.push_to_hub("me/again", private=True, tag="v1")
found["again"] = [again.repository, again.commit, again.files]
opened = DuplicatePipeline.from_pretrained("me/again", revision=again.commit, token="hf_good")
found["same"] = bool((opened.raw_scores(left, right) == pipeline.raw_scores(left, right)).all())

# The code on the card.
from pathlib import Path
for block in Path(snapshot_download("me/forum") + "/README.md").read_text().split("```python\\n")[1:]:
    exec(block.split("```")[0], {})
json.dump(found, open(sys.argv[2], "w"))
"""


def test_a_stranger_in_a_fresh_process_gets_the_same_scores_to_the_bit(
    hub: Hub,
    run: Run,
    pipeline: DuplicatePipeline,
    saved: Path,
    tiny_cross_encoder: Path,
    thousand: tuple[list[str], list[str]],
    tmp_path: Path,
) -> None:
    left, right = thousand
    done(run("model", "push", saved, ID, "--tag", "v1"))
    hub.put("me/stock", tiny_cross_encoder)
    others = ("modeling.py", "pytorch_model.bin", "onnx/config.json")
    files_of(hub, "me/stock").update({name: File(b"raise SystemExit('this was read')", False) for name in others})
    (tmp_path / "pairs.json").write_text(json.dumps(thousand))

    done(run(tmp_path / "pairs.json", tmp_path / "found.json", code=STRANGER))

    found = json.loads((tmp_path / "found.json").read_text())
    assert found["scores"] == [value.hex() for value in pipeline.raw_scores(left, right).tolist()]
    assert found["probabilities"] == [value.hex() for value in pipeline.probabilities(left, right).tolist()]
    assert found["decisions"] == [str(result.decision) for result in pipeline.score_pairs(left, right)]
    assert len(set(found["decisions"])) == 3
    assert found["metrics"] == {name: metric.value for name, metric in pipeline.report.metrics.items()}
    assert np.abs(np.array(found["logits"]) - found["ours"]).max() <= 1e-5
    assert found["apart"] <= 1e-5
    assert np.abs(np.array(found["stock"]) - found["ours"]).max() < 1e-3  # the pipeline's were rounded to float16
    assert "uncalibrated" in found["refusal"]
    assert found["again"][0] == "me/again"
    assert hub.repositories["me/again"].private
    assert hub.repositories["me/again"].tags == {"v1": found["again"][1]}
    assert found["same"]
    fetched = [line for line in hub.requests if "/me/stock/resolve/" in line]
    assert any("model.safetensors" in line for line in fetched)
    assert not [line for line in fetched if re.search(r"\.(py|bin)$|/onnx/", line)]


def test_a_push_is_one_commit_of_what_the_manifest_lists_and_nothing_else(
    hub: Hub, run: Run, saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pipeline"
    shutil.copytree(saved, folder)
    for stray in ("LICENSE", "NOTES.md", ".env", ".git/config"):
        (folder / stray).parent.mkdir(exist_ok=True)
        (folder / stray).write_text("not to be shared")
    pushed = json.loads(done(run("model", "push", folder, ID, "--private", "--json")))
    repository = hub.repositories[ID]
    assert repository.titles == ["initial commit", "Share a dupq pipeline"]
    assert repository.private
    assert pushed["commit"] == repository.branches["main"]
    assert set(files_of(hub)) == {".gitattributes", "dupq.json", *open_folder(saved)["files"]}
    card = files_of(hub)["README.md"].content.decode()
    assert f'from_pretrained("{ID}")' in card
    assert "POST /api/validate-yaml" in hub.requests
    assert "bi-encoder" in done(run("model", "inspect", ID))


def test_a_second_push_replaces_the_stale_card_and_takes_away_what_is_gone(
    hub: Hub, run: Run, pipeline: DuplicatePipeline, saved: Path, tmp_path: Path
) -> None:
    hub.put(ID, saved)
    hub.repositories[ID].commit("main", files_of(hub) | {"NOTES.txt": File(b"mine", False)}, "notes")
    alone = replace(pipeline, bi_encoder=None, blend=None, calibrator=None, rule=None, base_rate=None, evaluation=None)
    alone.save(tmp_path / "alone")
    done(run("model", "push", tmp_path / "alone", ID))
    there = files_of(hub)
    assert "uncalibrated" in there["README.md"].content.decode()
    assert not [name for name in there if name.startswith(("bi-encoder", "report"))]
    assert there["NOTES.txt"].content == b"mine"
    assert "does not decide" in done(run("model", "inspect", ID))
    assert hub.repositories[ID].titles == ["put here", "notes", "Share a dupq pipeline"]


def test_a_push_that_is_killed_leaves_the_old_revision_whole_and_goes_on_when_run_again(
    hub: Hub, run: Run, pipeline: DuplicatePipeline, saved: Path, tmp_path: Path
) -> None:
    replace(pipeline, bi_encoder=None, blend=None, evaluation=None).save(tmp_path / "first")
    hub.put(ID, tmp_path / "first")
    before = files_of(hub)
    reached, arrived = threading.Event(), set(hub.large)

    def hang(method: str, path: str) -> bool:
        # The first large file arrives, then the line goes dead.
        if path.endswith("/commit/main") or (method == "PUT" and len(hub.large) > len(arrived)):
            reached.set()
            threading.Event().wait(20)
            return True
        return False

    hub.before = hang
    process = subprocess.Popen(
        command("model", "push", saved, ID),
        env=environment(hub.url, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert reached.wait(60)
    process.kill()
    process.wait()
    hub.before = lambda method, path: None
    sent = set(hub.large) - arrived
    assert sent
    assert files_of(hub) == before
    assert "bi-encoder" not in done(run("model", "inspect", ID))

    hub.requests.clear()
    done(run("model", "push", saved, ID))
    assert set(files_of(hub)) == {".gitattributes", "dupq.json", *open_folder(saved)["files"]}
    assert not [line for line in hub.requests if line.removeprefix("PUT /large/") in sent]


def test_two_who_push_at_once_do_not_mix_their_files(hub: Hub, run: Run, saved: Path) -> None:
    hub.put(ID, saved)

    def other(method: str, path: str) -> None:
        if path.endswith("/commit/main"):
            hub.before = lambda method, path: None
            hub.repositories[ID].commit("main", files_of(hub) | {"theirs.txt": File(b"x", False)}, "theirs")

    hub.before = other
    hub.repositories[ID].commit("main", files_of(hub) | {"README.md": File(b"older", False)}, "older")
    told(run("model", "push", saved, ID), "somebody else has pushed", "push again")
    assert hub.repositories[ID].titles[-1] == "theirs"


@pytest.mark.parametrize(
    "name", ["report.json", "dupq.json", "cross-encoder/config.json", "cross-encoder/model.safetensors"]
)
def test_a_tampered_download_is_refused_by_name(hub: Hub, run: Run, saved: Path, name: str) -> None:
    hub.put(ID, saved)
    tampered = files_of(hub)[name]
    changed = bytearray(tampered.content)
    changed[len(changed) // 2] ^= 1
    hub.tamper = lambda path, content: bytes(changed) if path in (name, tampered.etag) else content
    told(run("model", "inspect", ID), name)


def test_a_download_that_is_cut_short_is_told(hub: Hub, run: Run, saved: Path) -> None:
    hub.put(ID, saved)
    hub.tamper = lambda path, content: content[:-10] if len(path) == 64 else content
    told(run("model", "inspect", ID), ID, "size")


def test_a_card_edited_on_the_hub_is_told_and_does_no_harm(hub: Hub, run: Run, saved: Path) -> None:
    hub.put(ID, saved)
    assert "as written by dupq" in done(run("model", "inspect", ID))
    hub.repositories[ID].commit("main", files_of(hub) | {"README.md": File(b"---\n---\nmine", False)}, "edit")
    assert "EDITED" in done(run("model", "inspect", ID))
    fetch = "from dupq.hub.push import fetch; from pathlib import Path; print(*Path(fetch('me/forum')).rglob('*'))"
    assert "README.md" not in done(run(code=fetch, HF_HUB_CACHE=str(saved.parent / "another-cache")))


def test_branch_and_tag(hub: Hub, run_several: RunSeveral, saved: Path) -> None:
    hub.put(ID, saved)
    second, inspected, same_tag, unknown = run_several(
        ("hf_good", ["model", "push", str(saved), ID, "--branch", "next", "--tag", "v2", "--message", "Second"]),
        ("hf_good", ["model", "inspect", ID, "--revision", "v2"]),
        ("hf_good", ["model", "push", str(saved), ID, "--tag", "v2"]),
        ("hf_good", ["model", "inspect", ID, "--revision", "v3"]),
    )
    repository = hub.repositories[ID]
    assert 'revision="v2"' in done(second)
    assert set(repository.branches) == {"main", "next"}
    assert repository.tags == {"v2": repository.branches["next"]}
    assert repository.titles == ["put here", "Second"]
    assert "report.json" in files_of(hub, revision="v2")
    assert "verified" in done(inspected)
    told(same_tag, "it has a tag v2 already")
    told(unknown, "has no revision 'v3'")


@pytest.mark.parametrize(
    "tag",
    ["v1 beta", "", "a..b", "/v1", "v1/", ".v1", "v1.", "a/.b", "v1.lock", "v~1", "v^1", "v:1", "v?", "v*", "v[1",
     "v\\1", "v\n", "@", "a@{b", "-v1", "a//b"],
)  # fmt: skip
def test_a_tag_that_git_refuses_is_refused_before_the_commit(saved: Path, tag: str) -> None:
    with pytest.raises(InputError, match="tag must be a valid name in git"):
        push(saved, ID, tag=tag)


@pytest.mark.parametrize("tag", ["v1", "v1.0-beta_2", "release/1", "2024-05-01", "a@b", "häufig"])
def test_names_that_git_takes_are_no_bad_tags(tag: str) -> None:
    assert not _NO_TAG.search(tag)


def test_a_tag_that_is_refused_after_the_commit_names_the_commit(hub: Hub, run: Run, saved: Path) -> None:
    def fail(method: str, path: str) -> None:
        if "/tag/" in path:
            raise RefusalError(409, message="Tag already exists")

    hub.before = fail
    answer = run("model", "push", saved, ID, "--tag", "v1")
    commit = hub.repositories[ID].branches["main"]
    told(answer, f"the commit {commit} was made, but its tag was not set", "409", "create_tag(", f"revision='{commit}'")
    assert hub.repositories[ID].titles == ["initial commit", "Share a dupq pipeline"]
    assert not hub.repositories[ID].tags


def test_what_the_hub_refuses_is_told_each_in_its_own_words(hub: Hub, run_several: RunSeveral, saved: Path) -> None:
    hub.put(ID, saved)
    hub.repositories[ID].private = True
    push, look = ["model", "push", str(saved), ID], ["model", "inspect", ID]
    answers = run_several(
        (None, push),
        ("hf_wrong", push),
        ("hf_good", ["model", "push", str(saved), "other/forum"]),
        ("hf_good", ["model", "push", str(saved), "not an id/at all"]),
        (None, look),
        ("hf_other", look),
        ("hf_wrong", look),
        ("hf_good", ["model", "inspect", "me/nothing"]),
    )
    for answer, words in zip(
        answers,
        (
            ("requires a token, and none is set", "hf auth login"),
            ("rejects this token",),
            ("this token does not allow it",),
            ("neither a folder here nor a Hub id",),
            ("open to all", "HF_TOKEN"),
            ("this token opens",),
            ("rejects this token",),
            ("neither a folder here nor a repository of the Hub",),
        ),
        strict=True,
    ):
        told(answer, *words)
    hub.repositories[ID].private = False
    hub.repositories[ID].gated = True
    nobody, other, mine, public = run_several(
        (None, look), ("hf_other", look), ("hf_good", look), ("hf_good", [*push, "--private"])
    )
    told(nobody, "gated", "no token")
    told(other, "gated", "ask for access")
    assert "verified" in done(mine)
    told(public, "there already, and public")


def test_a_missing_network_is_told_and_what_was_fetched_still_opens(
    hub: Hub, run: Run, saved: Path, tmp_path: Path
) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    told(
        run("model", "inspect", ID, **nowhere), "no such folder here", "cannot be reached", "check the path", "network"
    )
    told(run("model", "push", saved, ID, **nowhere), "cannot be reached", "network")
    told(run("model", "inspect", ID, HF_HUB_OFFLINE="1"), "no such folder here", "HF_HUB_OFFLINE is set")
    hub.put(ID, saved)
    done(run("model", "inspect", ID))
    assert "verified" in done(run("model", "inspect", ID, **nowhere))
    assert "verified" in done(run("model", "inspect", ID, HF_HUB_OFFLINE="1"))


def test_an_error_of_the_hub_is_told_with_its_number(hub: Hub, run: Run, saved: Path) -> None:
    def fail(method: str, path: str) -> None:
        if path.endswith("/commit/main"):
            raise RefusalError(507, message="out of storage")

    hub.before = fail
    told(run("model", "push", saved, ID), "507")
    assert list(hub.repositories[ID].titles) == ["initial commit"]


def test_a_damaged_folder_is_not_pushed(hub: Hub, run: Run, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "pipeline")
    (tmp_path / "pipeline/README.md").write_text("a card with better numbers")
    told(run("model", "push", tmp_path / "pipeline", ID), "README.md", "checksum differs")
    assert not hub.requests
