"""Parts on a disk and in an object store: whole or not at all, one run, one plan, clear errors."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from dupq.engine import work_folder
from dupq.engine.local import LocalEngine
from dupq.engine.unit_queue import count_attempts
from dupq.engine.work_folder import WorkFolder
from dupq.errors import InputError, OutputError
from tests.engine.tasks import SQUARES, parts, right, squares


def test_parts_are_written_read_listed_and_removed(any_work: WorkFolder) -> None:
    work = any_work
    assert work.names() == set()
    assert not work.exists("vectors/00000")
    work.write("vectors/00000", b"\x00\xff")
    work.write("vectors/deep/00001", b"")
    work.write("other", b"abc")
    assert work.read("vectors/00000") == b"\x00\xff"
    assert work.exists("vectors/deep/00001")
    assert not work.exists("vectors")
    assert work.names("vectors") == {"vectors/00000", "vectors/deep/00001"}
    assert work.names("none") == set()
    assert work.names() == {"vectors/00000", "vectors/deep/00001", "other"}
    assert (work.size("other"), work.size("vectors/deep/00001")) == (3, 0)
    work.write("other", b"abcd")
    assert work.read("other") == b"abcd"
    ranges = ((0, 4), (1, 3), (2, 9), (0, 1), (3, 3), (4, 2))
    assert [work.read_range("other", *at) for at in ranges] == [b"abcd", b"bc", b"cd", b"a", b"", b""]
    work.remove("other")
    work.remove("other")
    assert not work.exists("other")
    with pytest.raises(InputError, match="no part 'other'"):
        work.read("other")
    with pytest.raises(InputError, match="no part 'other'"):
        work.size("other")
    with pytest.raises(InputError, match="no part 'other'"):
        work.read_range("other", 0, 1)


def test_a_part_is_read_in_slices(any_work: WorkFolder) -> None:
    any_work.write("a/b", bytes(range(100)))
    assert any_work.read("a/b", 90) == bytes(range(90, 100))
    assert any_work.read("a/b", 0, 8) == bytes(range(8))
    assert any_work.read("a/b", 8, 24) == bytes(range(8, 24))


def test_a_copy_of_another_process_sees_the_same_parts(any_work: WorkFolder) -> None:
    any_work.write("vectors/00000", b"part")
    copy = pickle.loads(pickle.dumps(any_work))
    assert copy.read("vectors/00000") == b"part"
    copy.write("vectors/00001", b"part")
    assert any_work.names("vectors") == {"vectors/00000", "vectors/00001"}


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/../b", ".hidden", "a/.b", "a b", "a\\b", "ä", "a/"])
def test_a_name_stays_in_the_folder(work: WorkFolder, name: str) -> None:
    for call in (work.read, work.exists, work.size, work.names, work.remove, lambda name: work.write(name, b"")):
        with pytest.raises(InputError, match="the name of a part must be"):
            call(name)
    with pytest.raises(InputError, match="must not be empty"):
        work.write("", b"")


@pytest.mark.ray
def test_locations() -> None:
    with pytest.raises(InputError, match="empty"):
        WorkFolder(" ")
    with pytest.raises(InputError, match="work must be a path, got list"):
        WorkFolder(["x"])  # type: ignore[arg-type]
    assert WorkFolder("file:///x/y").location == "/x/y"
    assert WorkFolder("x").location == os.path.abspath("x")
    assert WorkFolder("s3://bucket/run/").location == "s3://bucket/run"
    assert "secret" not in repr(WorkFolder("s3://bucket/run", {"secret": "secret"}))
    with pytest.raises(InputError, match="cannot be opened"):
        WorkFolder("nosuch://bucket/run").exists("part")


def test_the_extra_is_needed_for_a_url_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from dupq import errors
    from dupq.errors import MissingExtraError

    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    WorkFolder("x")
    with pytest.raises(MissingExtraError, match="s3://bucket/run needs ray, fsspec"):
        WorkFolder("s3://bucket/run")


# ---- one run, one plan --------------------------------------------------------------------------------------------


@pytest.fixture
def _short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_folder, "LEASE_SECONDS", 2.0)


@pytest.mark.usefixtures("_short_lease")
def test_two_runs_in_one_folder(any_work: WorkFolder) -> None:
    other = WorkFolder(any_work.location, any_work.storage_options)
    with any_work.hold({"model": "m"}):
        with pytest.raises(InputError, match="another run is using this work folder"), other.hold({"model": "m"}):
            pass
        any_work.write("part", b"")
    with other.hold({"model": "m"}):
        assert other.names() == {"part"}


@pytest.mark.usefixtures("_short_lease")
def test_two_runs_that_start_together(s3_work: WorkFolder) -> None:
    start, holding, outcome = threading.Barrier(2), threading.Barrier(2, timeout=60), []

    def run() -> None:
        start.wait()
        try:
            with WorkFolder(s3_work.location, s3_work.storage_options).hold({}):
                outcome.append("held")
                holding.wait()
        except InputError:
            outcome.append("refused")
            holding.wait()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome) == ["held", "refused"]


@pytest.mark.usefixtures("_short_lease")
def test_the_lease_of_a_killed_run_is_void_after_a_while(s3_work: WorkFolder) -> None:
    s3_work.write("lock", b'{"owner": "gone", "host": "far", "process": 1, "time": 1e12}')  # its clock was fast
    with s3_work.hold({}):
        pass
    assert not s3_work.exists("lock")
    s3_work.write("lock", b"damaged")
    with s3_work.hold({}):
        pass


def test_the_plan_of_another_run_is_refused_by_name(any_work: WorkFolder) -> None:
    with any_work.hold({"texts": "a", "model": "m", "size": 7}):
        pass
    with any_work.hold({"size": 7, "model": "m", "texts": "a"}):
        pass
    with pytest.raises(InputError, match=r"another plan \(model, texts differ\)"):  # noqa: SIM117
        with any_work.hold({"texts": "b", "model": "n", "size": 7}):
            pass
    with pytest.raises(InputError, match=r"another plan \(more differs\)"):  # noqa: SIM117
        with any_work.hold({"texts": "a", "model": "m", "size": 7, "more": None}):
            pass
    any_work.write("plan.json", b"{")
    with pytest.raises(InputError, match=r"plan.json is damaged"), any_work.hold({}):
        pass


def test_a_folder_of_something_else_is_refused(any_work: WorkFolder) -> None:
    any_work.write("thesis", b"")
    with pytest.raises(InputError, match="files of something else"), any_work.hold({}):
        pass
    assert any_work.names() == {"thesis"}


def test_what_a_kill_left_is_removed(work: WorkFolder) -> None:
    with work.hold({}):
        work.write("vectors/00000", b"")
    left = Path(work.location, "vectors", ".00001.abc.part")
    left.write_bytes(b"half")
    assert work.names() == {"vectors/00000"}
    with work.hold({}):
        assert not left.exists()


# ---- errors -------------------------------------------------------------------------------------------------------


def test_a_full_disk(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    work.write("part", b"whole")

    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as stream:
            stream.write(data[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="part could not be written \\(No space left on device\\)") as caught:
        work.write("part", b"other")
    assert caught.value.location == work.location
    assert work.read("part") == b"whole"
    assert os.listdir(work.location) == ["part"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    work = WorkFolder(tmp_path / "file" / "work")
    with pytest.raises(OutputError, match="could not be written"), work.hold({}):
        pass
    with pytest.raises(OutputError, match="part could not be written"):
        work.write("part", b"")


def test_lost_permission(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *_: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "write_bytes", refused)
    with pytest.raises(InputError, match="part cannot be read \\(Permission denied\\)"):
        work.read("part")
    with pytest.raises(OutputError, match="part could not be written \\(Permission denied\\)"):
        work.write("part", b"")


@pytest.mark.usefixtures("s3_work")
def test_a_bucket_that_is_not_there(s3_server: str) -> None:
    work = WorkFolder("s3://no-such-bucket/run", {"endpoint_url": s3_server})
    with pytest.raises(OutputError, match=r"part could not be written \(.*bucket"):
        work.write("part", b"")
    with pytest.raises(OutputError, match="could not be written"), work.hold({}):
        pass


def test_a_store_that_does_not_answer(s3_work: WorkFolder) -> None:
    options = {
        "endpoint_url": "http://127.0.0.1:1",
        "config_kwargs": {"connect_timeout": 1, "retries": {"max_attempts": 1}},
    }
    work = WorkFolder(s3_work.location, options)
    with pytest.raises(InputError, match="cannot be read"):
        work.read("part")
    with pytest.raises(OutputError, match="could not be written"):
        work.write("part", b"")


# ---- with an engine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_units_in_an_object_store(s3_work: WorkFolder, workers: int) -> None:
    LocalEngine(workers).run(SQUARES, squares(4, u002={"fails": 1}), s3_work)
    assert parts(s3_work) == right(4)
    assert count_attempts(s3_work, "squares/002") == 2
