"""A pipeline to its folder and back. What is in the folder is told in `model_cards/README.md`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dupq.errors import ModelFolderError
from dupq.models.networks import STOCK, StoredEmbedder, StoredScorer, open_bi_encoder, open_cross_encoder
from dupq.models.stock import read_fingerprints, write_fingerprints
from dupq.sharing.folder import folder_beside, open_folder, write_manifest
from dupq.sharing.manifest import MANIFEST, SAFE_SUFFIXES

CROSS_ENCODER, BI_ENCODER = "cross-encoder", "bi-encoder"
TRAINED_ON = "training_questions.safetensors"
REPORT, REPORT_PAGE = "report.json", "report.html"


class SavablePipeline(Protocol):
    """What is saved of a `DuplicatePipeline`; see there for what each is."""

    @property
    def cross_encoder(self) -> StoredScorer | None: ...
    @property
    def bi_encoder(self) -> StoredEmbedder | None: ...
    @property
    def blend(self) -> tuple[float, float, float] | None: ...
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
        networks = {}
        for name, network in ((CROSS_ENCODER, pipeline.cross_encoder), (BI_ENCODER, pipeline.bi_encoder)):
            if network is not None:
                network.save(beside / name)
                networks[name] = {"form": network.form, "fingerprint": network.fingerprint}
        if pipeline.trained_on is not None:
            write_fingerprints(beside / TRAINED_ON, pipeline.trained_on)
        if pipeline.evaluation is not None:
            (beside / REPORT).write_text(json.dumps(pipeline.evaluation.to_dict(), indent=1), encoding="utf-8")
            (beside / REPORT_PAGE).write_text(pipeline.evaluation.to_html(), encoding="utf-8")
        write_manifest(
            beside,
            {
                "dupq": __version__,
                "networks": networks,
                "symmetry": "canonical order: the text that sorts first by code point is the first input",
                "blend": pipeline.blend,
                "fingerprint": pipeline.fingerprint,
                "calibrator": pipeline.calibrator.to_dict() if pipeline.calibrator else None,
                "rule": pipeline.rule.to_dict() if pipeline.rule else None,
                "base_rate": pipeline.base_rate,
                "facts": dict(pipeline.facts),
            },
        )


def load_pipeline(folder: Path, device: str | None = None) -> dict[str, Any]:
    """The keyword arguments of a `DuplicatePipeline` from a folder, verified first."""
    if not (folder / MANIFEST).exists():
        return _stock_parts(folder, device)
    from dupq.decisions.calibration import calibrator_from_dict
    from dupq.decisions.report import Report
    from dupq.decisions.thresholds import DecisionRule

    content = open_folder(folder)
    parts: dict[str, Any] = {"base_rate": content["base_rate"], "facts": content["facts"]}
    networks = content["networks"]
    if CROSS_ENCODER in networks:
        parts["cross_encoder"] = open_cross_encoder(networks[CROSS_ENCODER]["form"], folder / CROSS_ENCODER, device)
    if BI_ENCODER in networks:
        parts["bi_encoder"] = open_bi_encoder(networks[BI_ENCODER]["form"], folder / BI_ENCODER, device)
    parts["blend"] = tuple(content["blend"]) if content["blend"] else None
    parts["calibrator"] = calibrator_from_dict(content["calibrator"]) if content["calibrator"] else None
    parts["rule"] = DecisionRule.from_dict(content["rule"]) if content["rule"] else None
    if TRAINED_ON in content["files"]:
        parts["trained_on"] = read_fingerprints(folder / TRAINED_ON)
    if REPORT in content["files"]:
        parts["evaluation"] = Report.from_dict(json.loads((folder / REPORT).read_text(encoding="utf-8")))
    return parts


def _stock_parts(folder: Path, device: str | None) -> dict[str, Any]:
    """A folder without `dupq.json`: a stock network of sentence-transformers, which makes an uncalibrated pipeline."""
    config = folder / "config.json"
    settings = folder / "config_sentence_transformers.json"
    if not config.is_file() and not (folder / "modules.json").is_file():
        raise ModelFolderError(
            "this is neither a pipeline folder nor a network (no dupq.json, modules.json or config.json)",
            where=str(folder),
            mend="check the path",
        )
    kind = json.loads(settings.read_text(encoding="utf-8")).get("model_type", "") if settings.is_file() else ""
    architectures = json.loads(config.read_text(encoding="utf-8")).get("architectures") if config.is_file() else None
    classifies = any(name.endswith("ForSequenceClassification") for name in architectures or ())
    if kind == "CrossEncoder" or (not kind and classifies):
        return {"cross_encoder": open_cross_encoder(STOCK, folder, device)}
    return {"bi_encoder": open_bi_encoder(STOCK, folder, device)}


def resolve(name: str | Path, revision: str | None = None) -> Path:
    """The local folder of a path or a Hub id, fetched from the Hub if need be.

    Raises:
        ModelFolderError: It is no folder here, and the Hub does not give it.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    text = str(name)
    if folder.exists() or text.count("/") > 1 or text.startswith((".", "/", "~")) or "\\" in text:
        raise ModelFolderError("there is no such folder", where=text, mend="check the path or the Hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [f"*{suffix}" for suffix in sorted(SAFE_SUFFIXES)]
    try:
        return Path(snapshot_download(text, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()
        raise ModelFolderError(
            f"the Hub does not give it ({first[0] if first else type(error).__name__})",
            where=text,
            mend="check the name, the network, and for private or gated repositories the token (HF_TOKEN)",
        ) from error
