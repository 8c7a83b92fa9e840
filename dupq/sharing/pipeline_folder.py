"""A pipeline to its folder and back. What is in the folder is told in `model_cards/README.md`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import write_json
from dupq.errors import InputError, ModelFolderError
from dupq.models.cascade import Band
from dupq.models.networks import STOCK, StoredEmbedder, StoredScorer, described, open_bi_encoder, open_cross_encoder
from dupq.models.runtime import SETTINGS
from dupq.models.safety import read_json
from dupq.models.shared_words import SharedWords
from dupq.models.stock import QUESTIONS, TRAINED_ON, read_fingerprints, write_fingerprints
from dupq.models.words import share_words
from dupq.sharing.card import write_pages
from dupq.sharing.folder import folder_beside, naming, open_folder, read_report, write_manifest
from dupq.sharing.hub import Token, fetch
from dupq.sharing.manifest import BI_ENCODER, CROSS_ENCODER, MANIFEST, REPORT, SHARED_WORDS, walk
from dupq.sharing.probe import probe


class SavablePipeline(Protocol):
    """What is saved of a `DuplicatePipeline`; see there for what each is."""

    @property
    def cross_encoder(self) -> StoredScorer | None: ...
    @property
    def bi_encoder(self) -> StoredEmbedder | None: ...
    @property
    def blend(self) -> tuple[float, ...] | None: ...
    @property
    def shared_words(self) -> SharedWords | None: ...
    @property
    def cascade(self) -> Band | None: ...
    @property
    def calibrator(self) -> Any: ...
    @property
    def rule(self) -> Any: ...
    @property
    def base_rate(self) -> float | None: ...
    @property
    def evaluation(self) -> Any: ...
    @property
    def trained_on(self) -> NDArray[np.int64] | None: ...
    @property
    def facts(self) -> Any: ...
    @property
    def fingerprint(self) -> str: ...


def save_pipeline(pipeline: SavablePipeline, folder: str | Path) -> None:
    """Writes the folder, whole or not at all."""
    from dupq import __version__

    with folder_beside(folder) as beside:
        networks: dict[str, dict[str, str]] = {}
        for name, network in ((CROSS_ENCODER, pipeline.cross_encoder), (BI_ENCODER, pipeline.bi_encoder)):
            if network is not None:
                network.save(beside / name)
                networks[name] = described(network)
                if network.form == STOCK and pipeline.trained_on is not None:
                    # A copy of it, taken out of this folder to train on, would else have seen nothing.
                    write_fingerprints(beside / name / QUESTIONS, pipeline.trained_on)
        share_words(beside / CROSS_ENCODER, beside / BI_ENCODER, SETTINGS)
        _write_pointer(beside, networks)
        if pipeline.shared_words is not None:
            pipeline.shared_words.save(beside / SHARED_WORDS)
        if pipeline.trained_on is not None:
            write_fingerprints(beside / TRAINED_ON, pipeline.trained_on)
        if pipeline.evaluation is not None:
            write_json(beside / REPORT, pipeline.evaluation.to_dict())
        content = {
            "dupq": __version__,
            "networks": networks,
            "blend": pipeline.blend,
            "cascade": pipeline.cascade.to_dict() if pipeline.cascade else None,
            "fingerprint": pipeline.fingerprint,
            "calibrator": pipeline.calibrator.to_dict() if pipeline.calibrator else None,
            "rule": pipeline.rule.to_dict() if pipeline.rule else None,
            "base_rate": pipeline.base_rate,
            "facts": without_paths(dict(pipeline.facts)),
        }
        write_pages(beside, {**content, "files": [name for name, _ in walk(beside)]}, pipeline.evaluation)
        write_manifest(beside, content)


def without_paths(facts: Any) -> Any:
    """Facts in which a path of this machine is cut down to its last part: where it lay is nobody's business."""
    if isinstance(facts, dict):
        return {key: without_paths(value) for key, value in facts.items()}
    if isinstance(facts, (list, tuple)):
        return [without_paths(value) for value in facts]
    if isinstance(facts, str) and "\n" not in facts and Path(facts).is_absolute():
        return Path(facts).name
    return facts


def _write_pointer(folder: Path, networks: dict[str, dict[str, str]]) -> None:
    """Lets stock sentence-transformers open the folder itself: its `modules.json` points at the modules of a network.

    That is the cross-encoder, if there is one in a stock form, else the bi-encoder.
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


def load_pipeline(folder: Path, device: str | None = None, threads: int | None = None) -> dict[str, Any]:
    """The keyword arguments of a `DuplicatePipeline` from a folder, verified first.

    Raises:
        ModelFolderError: The folder is missing, damaged, altered, unsafe, or of a newer format.
    """
    if not (folder / MANIFEST).exists():
        return _stock_parts(folder, device, threads)
    content = open_folder(folder)
    parts: dict[str, Any] = {"base_rate": content.get("base_rate"), "facts": content.get("facts", {})}
    networks, blend = content["networks"], content.get("blend")
    if CROSS_ENCODER in networks:
        form, symmetry = networks[CROSS_ENCODER]["form"], networks[CROSS_ENCODER].get("symmetry", "canonical")
        parts["cross_encoder"] = open_cross_encoder(form, folder / CROSS_ENCODER, device, threads, symmetry)
    if BI_ENCODER in networks:
        form, long_texts = networks[BI_ENCODER]["form"], networks[BI_ENCODER].get("long_texts", "whole")
        parts["bi_encoder"] = open_bi_encoder(form, folder / BI_ENCODER, device, threads, long_texts)
    with naming(folder / MANIFEST):
        if blend is not None and len(networks) < 2:
            raise ModelFolderError("it blends two networks, and holds one", mend="save it again")
        parts["blend"] = tuple(blend) if blend is not None else None
        if SHARED_WORDS in content["files"]:
            if blend is None:
                raise ModelFolderError("it counts shared words, and blends nothing", mend="save it again")
            parts["shared_words"] = SharedWords.read(folder / SHARED_WORDS)
        if content.get("cascade"):
            parts["cascade"] = band = Band.from_dict(content["cascade"])
            if len(networks) < 2 or (band.first == CROSS_ENCODER and blend is None):
                raise ModelFolderError("its cascade does not fit its networks", mend="save it again")
        if content.get("calibrator"):
            from dupq.decisions.calibration import calibrator_from_dict

            parts["calibrator"] = calibrator_from_dict(content["calibrator"])
        if content.get("rule"):
            from dupq.decisions.thresholds import DecisionRule

            parts["rule"] = DecisionRule.from_dict(content["rule"])
    if TRAINED_ON in content["files"]:
        parts["trained_on"] = read_fingerprints(folder / TRAINED_ON)
    if REPORT in content["files"]:
        parts["evaluation"] = read_report(folder)
    return parts


def _stock_parts(folder: Path, device: str | None, threads: int | None) -> dict[str, Any]:
    """A folder without `dupq.json`: a stock network of sentence-transformers, which makes an uncalibrated pipeline."""
    config, settings, modules = (
        read_json(folder / name) if (folder / name).is_file() else None
        for name in ("config.json", "config_sentence_transformers.json", "modules.json")
    )
    if config is None and modules is None:
        raise ModelFolderError(
            "this is neither a pipeline folder nor a network (no dupq.json, modules.json or config.json)",
            where=str(folder),
            mend="check the path",
        )
    kind = settings.get("model_type", "") if isinstance(settings, dict) else ""
    architectures = config.get("architectures") if isinstance(config, dict) else None
    classifies = isinstance(architectures, list) and any(
        str(name).endswith("ForSequenceClassification") for name in architectures
    )
    if kind == "CrossEncoder" or (not kind and modules is None and classifies):
        cross_encoder = open_cross_encoder(STOCK, folder, device, threads)
        probe(cross_encoder, folder)
        return {"cross_encoder": cross_encoder}
    bi_encoder = open_bi_encoder(STOCK, folder, device, threads)
    probe(bi_encoder, folder)
    return {"bi_encoder": bi_encoder}


def resolve(name: str | Path, revision: str | None = None, token: Token = None, pages: bool = False) -> Path:
    """The local folder of a path or a Hub id, fetched from the Hub if need be; `pages`: its files for people too.

    Raises:
        ModelFolderError: It is no folder here, and the Hub does not give it.
        InputError: A revision of a local folder was asked for.
    """
    folder, text = Path(name).expanduser(), str(name)
    if folder.is_dir():
        if revision is not None:
            raise InputError("a folder here has no revisions", where=text, mend="leave the revision out")
        return folder
    if isinstance(name, Path) and name.is_absolute():
        raise ModelFolderError("there is no such folder", where=text, mend="check the path")
    if folder.exists() or text.count("/") > 1 or text.startswith((".", "/", "~")) or "\\" in text:
        raise ModelFolderError("there is no such folder", where=text, mend="check the path or the Hub id")
    return fetch(text, revision, token, pages)
