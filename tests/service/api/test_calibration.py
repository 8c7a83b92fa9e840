from __future__ import annotations

from dupq.service.state import Service
from tests.questions import labelled_pairs
from tests.service.api.conftest import Call


def test_a_report_has_estimates_and_versions(filled: Call, service: Service) -> None:
    found = filled("GET", "/v1/report", role="reader")
    assert found["guarantee"] == service.index.decider.guarantee
    assert found["threshold"] == service.index.decider.threshold
    assert found["stats"]["questions"] == 6
    assert found["model"] == service.pipeline.fingerprint
    assert found["monitor"]["estimates"]["precision"]["value"] is None
    assert found["monitor"]["advice"] == "Nothing to do."


def test_calibrate_and_back(call: Call, service: Service) -> None:
    assert "30 are needed" in call("POST", "/v1/calibrate", {"dry_run": True}, status=409)["hint"]
    texts = sorted({text for pair in labelled_pairs(16) for text in (pair.question1, pair.question2)})
    service.index.add(texts, texts)
    service.index.flag_stored(texts)
    queue = service.index.review_queue(80)
    middle = sorted(item.decision.score for item in queue if item.decision)[40]
    for number, item in enumerate(queue):
        similar = item.decision is not None and item.decision.score > middle
        service.index.verdict(
            item.question.id,
            item.other.id,
            "duplicate" if similar != (number % 7 == 0) else "distinct",
            by="ann",
            chosen=item.chosen,
            sampled=item.sampled,
        )
    own = call("GET", "/v1/calibrations")
    assert (own["versions"], own["in_use"]) == ([], 0)
    tried = call("POST", "/v1/calibrate", {"dry_run": True, "policy": "precision>=0.8"})
    assert tried["number"] is None
    assert {"before", "after", "conclusion"} <= set(tried["report"])
    call("POST", "/v1/calibrate", {"policy": "nonsense"}, status=422)
    call("POST", "/v1/calibrate", {}, role="moderator", status=403)
    made = call("POST", "/v1/calibrate", {})
    versions = call("GET", "/v1/calibrations")
    assert (made["number"], versions["in_use"]) == (1, 1)
    assert versions["versions"][0]["by"] == "the admin"
    assert versions["threshold"] == made["threshold"]
    left = call("GET", "/v1/review?limit=1")["items"][0]["decision"]
    assert left["guarantee"].startswith("no guarantee: it was decided with another")
    back = call("POST", "/v1/calibrations/0/use")
    left = call("GET", "/v1/review?limit=1")["items"][0]["decision"]
    assert left["guarantee"] == back["guarantee"]
    assert (back["in_use"], back["threshold"]) == (0, own["threshold"])
    assert call("POST", "/v1/calibrations/1/use")["in_use"] == 1
    call("POST", "/v1/calibrations/9/use", status=404)
