"""Report on the live index, and its calibration."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from dupq.data.arguments import MAX_INT
from dupq.service.access import Manager, Reader
from dupq.service.api import answers
from dupq.service.api.declared import errors
from dupq.service.api.strict_json import StrictRoute
from dupq.service.problems import ProblemError
from dupq.service.schemas import Calibrated, CalibrateRequest, Calibrations, Report
from dupq.service.state import Service, service_of
from dupq.version import __version__

router = APIRouter(prefix="/v1", tags=["calibration"], route_class=StrictRoute)
Served = Annotated[Service, Depends(service_of)]


@router.get("/report", operation_id="report", response_model=Report)
def report(caller: Reader, service: Served) -> dict[str, Any]:
    """Return the state of the index.

    The report has the estimates against the guarantee, the alarm, the drift, counts and versions.
    """
    decider = service.index.decider
    embedder = service.pipeline.embedder
    return {
        "monitor": answers.plain(service.index.monitor().to_dict()),
        "threshold": decider.threshold,
        "guarantee": decider.guarantee,
        "base_rate": decider.base_rate,
        "stats": answers.plain(service.index.stats()),
        "model": service.pipeline.fingerprint,
        "embedder": None if embedder is None else embedder.fingerprint,
        "version": __version__,
    }


@router.post(
    "/calibrate",
    operation_id="calibrate",
    response_model=Calibrated,
    responses=errors({409: "There are too few verdicts."}),
)
def calibrate(body: CalibrateRequest, caller: Manager, service: Served) -> dict[str, Any]:
    """Refit calibrator and threshold from the verdicts, and use them from now on.

    Stored decisions change when the questions are decided again.
    """
    # It reads scores that are stored, so the thread of the model goes on.
    result = service.index.calibrate(policy=body.policy, by=caller.name, dry_run=body.dry_run)
    return {
        "number": result.number,
        "threshold": result.calibration.threshold,
        "guarantee": result.guarantee,
        "base_rate": result.calibration.calibrator.base_rate,
        "model": service.pipeline.fingerprint,
        "report": answers.plain(result.to_dict()),
    }


@router.get("/calibrations", operation_id="calibrations", response_model=Calibrations)
def calibrations(caller: Reader, service: Served) -> dict[str, Any]:
    """Return the versions of the calibration."""
    return _versions(service)


@router.post(
    "/calibrations/{number}/use",
    operation_id="use_calibration",
    response_model=Calibrations,
    responses=errors({404: "No version has the number."}),
)
def use_calibration(
    number: Annotated[int, Path(ge=0, le=MAX_INT, description="0: that of the model", examples=[0])],
    caller: Manager,
    service: Served,
) -> dict[str, Any]:
    """Use another version of the calibration from now on.

    Version 0 is the calibration of the model.
    """
    if number and number not in {version.number for version in service.index.calibrations()}:
        raise ProblemError(404, f"there is no calibration {number}", hint="see GET /v1/calibrations")
    service.index.roll_back(number, by=caller.name)
    return _versions(service)


def _versions(service: Service) -> dict[str, Any]:
    decider, versions = service.index.decider, service.index.calibrations()
    return {
        "versions": [
            {
                "number": version.number,
                "at": version.at,
                "by": version.by,
                "model": version.scorer,
                "in_use": version.in_use,
                "threshold": version.threshold,
                "guarantee": version.guarantee,
                "report": answers.plain(version.report),
            }
            for version in versions
        ],
        "in_use": next((version.number for version in versions if version.in_use), 0),
        "threshold": decider.threshold,
        "guarantee": decider.guarantee,
    }
