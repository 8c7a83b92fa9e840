"""Save and load the parts of a pipeline.

`docs/reference/folder-format.md` describes the folder.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.calibration.calibrators import Calibrator, calibrator_from_dict
from dupq.data.writing import write_json
from dupq.decisions.candidate_calibration import CandidateCalibration
from dupq.decisions.candidate_rule import CandidateRule
from dupq.decisions.decision_rule import DecisionRule
from dupq.errors import InputError, ModelFolderError
from dupq.evaluation.report import Report
from dupq.hub.card import write_pages
from dupq.hub.folder import located, open_folder, read_report, replacing_folder, write_manifest
from dupq.hub.manifest import BI_ENCODER, CROSS_ENCODER, IDF_OVERLAP, MANIFEST, REPORT, walk
from dupq.hub.push import Token, fetch
from dupq.hub.smoke_test import smoke_test
from dupq.models.cascade import CascadeThresholds
from dupq.models.idf_overlap import IdfOverlap
from dupq.models.loading import (
    STOCK,
    StoredEmbedder,
    StoredScorer,
    load_bi_encoder,
    load_cross_encoder,
    manifest_entry,
    network_kind,
)
from dupq.models.onnx.embedding_table import share_table
from dupq.models.onnx.runtime import SETTINGS
from dupq.models.safety import read_json
from dupq.models.sentence_transformers_io import (
    QUESTIONS,
    TRAINED_ON,
    read_fingerprints,
    write_fingerprints,
)

CALIBRATED_ON = "calibration_questions.safetensors"
"""Fingerprints of the questions that the blend, calibrator, thresholds or cascade were fitted on."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
"""owner/name, in the characters that the Hub allows."""


def save_parts(
    folder: str | Path,
    *,
    cross_encoder: StoredScorer | None,
    bi_encoder: StoredEmbedder | None,
    blend: tuple[float, ...] | None,
    idf_overlap: IdfOverlap | None,
    cascade: CascadeThresholds | None,
    calibrator: Calibrator | None,
    rule: DecisionRule | None,
    base_rate: float | None,
    evaluation: Report | None,
    trained_on: NDArray[np.int64] | None,
    calibrated_on: NDArray[np.int64] | None,
    facts: Mapping[str, Any],
    candidate_rule: CandidateRule,
    fingerprint: str,
    candidate_calibration: CandidateCalibration | None = None,
) -> None:
    """Write the parts of a pipeline to a folder, whole or not at all.

    Args:
        folder: The pipeline folder; an older one there is replaced.
        cross_encoder, bi_encoder, blend, idf_overlap, cascade: As in `DuplicatePipeline`.
        calibrator, rule, base_rate, evaluation, trained_on, calibrated_on, facts, candidate_rule: As there.
        fingerprint: Fingerprint of the scorer.
        candidate_calibration: As in `DuplicatePipeline`.

    Raises:
        OutputError: It could not be written, or something else is there.
    """
    from dupq.version import __version__

    with replacing_folder(folder) as new:
        networks: dict[str, dict[str, str]] = {}
        for name, network in ((CROSS_ENCODER, cross_encoder), (BI_ENCODER, bi_encoder)):
            if network is not None:
                network.save(new / name)
                networks[name] = manifest_entry(network)
                if network.form == STOCK and trained_on is not None:
                    # Training on a copy of this network would else start without them.
                    write_fingerprints(new / name / QUESTIONS, trained_on)
        share_table(new / CROSS_ENCODER, new / BI_ENCODER, SETTINGS)
        _write_modules(new, networks)
        if idf_overlap is not None:
            idf_overlap.save(new / IDF_OVERLAP)
        for name, questions in ((TRAINED_ON, trained_on), (CALIBRATED_ON, calibrated_on)):
            if questions is not None:
                write_fingerprints(new / name, questions)
        if evaluation is not None:
            write_json(new / REPORT, evaluation.to_dict())
        content = {
            "dupq": __version__,
            "networks": networks,
            "blend": blend,
            "cascade": cascade.to_dict() if cascade else None,
            "fingerprint": fingerprint,
            "calibrator": calibrator.to_dict() if calibrator else None,
            "rule": rule.to_dict() if rule else None,
            "base_rate": base_rate,
            "candidate_rule": candidate_rule.to_dict() if candidate_rule != CandidateRule() else None,
            "candidate_calibration": candidate_calibration.to_dict() if candidate_calibration else None,
            "facts": without_paths(dict(facts)),
        }
        write_pages(new, {**content, "files": [name for name, _ in walk(new)]}, evaluation)
        write_manifest(new, content)


def without_paths(facts: Any) -> Any:
    """Strip local directories from recorded paths, for privacy."""
    if isinstance(facts, dict):
        return {key: without_paths(value) for key, value in facts.items()}
    if isinstance(facts, (list, tuple)):
        return [without_paths(value) for value in facts]
    if isinstance(facts, str) and "\n" not in facts and Path(facts).is_absolute():
        return Path(facts).name
    return facts


def _write_modules(folder: Path, networks: dict[str, dict[str, str]]) -> None:
    """Write a `modules.json` with which sentence-transformers opens the folder itself.

    It points at the modules of the cross-encoder, if there is one in torch form, else of the bi-encoder.
    """
    for name in (CROSS_ENCODER, BI_ENCODER):
        source = folder / name / "modules.json"
        if networks.get(name, {}).get("form") == STOCK and source.is_file():
            modules = read_json(source)
            if all(module["type"].startswith("sentence_transformers.") for module in modules):
                places = [f"{name}/{module['path']}".rstrip("/") for module in modules]
                pointed = [{**module, "path": place} for module, place in zip(modules, places, strict=True)]
                write_json(folder / "modules.json", pointed)
                shutil.copyfile(
                    folder / name / "config_sentence_transformers.json", folder / "config_sentence_transformers.json"
                )
            return


def load_parts(folder: Path, device: str | None = None, threads: int | None = None) -> dict[str, Any]:
    """Verify a pipeline folder and load its parts.

    A folder without `dupq.json` is taken for a network of sentence-transformers, which makes an uncalibrated pipeline.

    Args:
        folder: The folder.
        device, threads: As in `DuplicatePipeline.from_pretrained`.

    Raises:
        ModelFolderError: The folder is missing, damaged, altered, unsafe, or of another format.
        InputError: The device is not available, or not for these networks.
    """
    if not (folder / MANIFEST).exists():
        return _stock_parts(folder, device, threads)
    content = open_folder(folder)
    networks, files = content["networks"], content["files"]
    parts: dict[str, Any] = {"base_rate": content.get("base_rate"), "facts": content.get("facts", {})}
    parts |= _open_networks(folder, networks, device, threads)
    with located(folder / MANIFEST):
        blend = content.get("blend")
        if blend is not None and len(networks) < 2:
            raise ModelFolderError("it has a blend, and one network only", hint="save it again")
        parts["blend"] = tuple(blend) if blend is not None else None
        if IDF_OVERLAP in files:
            if blend is None:
                raise ModelFolderError("it has an IDF overlap, and no blend", hint="save it again")
            parts["idf_overlap"] = IdfOverlap.read(folder / IDF_OVERLAP)
        if content.get("cascade"):
            cascade = parts["cascade"] = CascadeThresholds.from_dict(content["cascade"])
            if len(networks) < 2 or (cascade.first == CROSS_ENCODER and blend is None):
                raise ModelFolderError("its cascade does not fit its networks", hint="save it again")
        if content.get("calibrator"):
            parts["calibrator"] = calibrator_from_dict(content["calibrator"])
            if parts["calibrator"].reads_cosines:
                raise ModelFolderError("its calibrator is one of candidates", hint="calibrate again")
        if content.get("rule"):
            parts["rule"] = DecisionRule.from_dict(content["rule"])
        if content.get("candidate_rule"):
            parts["candidate_rule"] = CandidateRule.from_dict(content["candidate_rule"])
        if content.get("candidate_calibration"):
            parts["candidate_calibration"] = CandidateCalibration.from_dict(content["candidate_calibration"])
            if parts["candidate_calibration"].calibrator.reads_cosines and BI_ENCODER not in networks:
                raise ModelFolderError("its candidates need cosines, and it has no bi-encoder", hint="save it again")
    for key, name in (("trained_on", TRAINED_ON), ("calibrated_on", CALIBRATED_ON)):
        if name in files:
            parts[key] = read_fingerprints(folder / name)
    if REPORT in files:
        parts["evaluation"] = read_report(folder)
    return parts


def _open_networks(
    folder: Path, networks: dict[str, Any], device: str | None, threads: int | None
) -> dict[str, StoredScorer | StoredEmbedder]:
    """Open the networks of a folder.

    Two int8 networks open at the same time, because onnxruntime works beside the interpreter.
    """
    opening: dict[str, Callable[[], StoredScorer | StoredEmbedder]] = {}
    if CROSS_ENCODER in networks:
        entry = networks[CROSS_ENCODER]
        options = entry.get("symmetry", "canonical"), entry.get("long_pairs", "whole")
        place = folder / CROSS_ENCODER
        opening["cross_encoder"] = partial(load_cross_encoder, entry["form"], place, device, threads, *options)
    if BI_ENCODER in networks:
        form, long_texts = networks[BI_ENCODER]["form"], networks[BI_ENCODER].get("long_texts", "whole")
        opening["bi_encoder"] = partial(load_bi_encoder, form, folder / BI_ENCODER, device, threads, long_texts)
    if any(entry["form"] == STOCK for entry in networks.values()):
        return {name: load() for name, load in opening.items()}
    with ThreadPoolExecutor() as pool:
        opened = {name: pool.submit(load) for name, load in opening.items()}
    return {name: future.result() for name, future in opened.items()}


def _stock_parts(folder: Path, device: str | None, threads: int | None) -> dict[str, Any]:
    network: StoredScorer | StoredEmbedder
    if network_kind(folder) == "cross-encoder":
        name, network = "cross_encoder", load_cross_encoder(STOCK, folder, device, threads)
    else:
        name, network = "bi_encoder", load_bi_encoder(STOCK, folder, device, threads)
    smoke_test(network, folder)
    return {name: network}


def resolve(name: str | Path, revision: str | None = None, token: Token = None, pages: bool = False) -> Path:
    """Return the local folder of a path or Hub id, fetched if need be.

    Args:
        name: A folder, or owner/name on the Hub.
        revision: Branch, tag or commit on the Hub.
        token: See `dupq.hub.push.Token`.
        pages: Fetch the files for people (card, report page, plots) too.

    Raises:
        ModelFolderError: It is no local folder, and the Hub refuses it.
        InputError: `name` is of a wrong kind, or a revision is given for a local folder.
    """
    if not isinstance(name, (str, Path)):
        raise InputError(f"name must be a folder or a Hub id, got {name!r:.80}", hint="give a str or a Path")
    text = str(name)
    try:
        folder = Path(name).expanduser()
        is_folder, parent_exists, exists = folder.is_dir(), folder.parent.is_dir(), folder.exists()
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelFolderError(
            f"the path cannot be read ({reason})", location=text[:80], hint="check the path"
        ) from error
    if is_folder:
        if revision is not None:
            raise InputError("a local folder has no revisions", location=text, hint="leave the revision out")
        return folder
    if isinstance(name, Path) or exists or not _HUB_ID.fullmatch(text):
        raise ModelFolderError(
            "there is no such folder", location=text, hint="check the path; a Hub id is written as owner/name"
        )
    if parent_exists and revision is None:
        raise ModelFolderError(
            f"there is no such folder in {folder.parent}{os.sep}",
            location=text,
            hint="check the path; to open a Hub id of this name, run it from another folder",
        )
    return fetch(text, revision, token, pages)
