"""The card: its numbers are those of the report, its metadata is what the Hub takes, and it says what is not good."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from dupq.cli.main import main
from dupq.errors import InputError, LeakError, ModelFolderError
from dupq.evaluation.report import Report
from dupq.hub.card import render_card
from dupq.hub.card_metadata import METRICS, read_about
from dupq.hub.external_results import UNSEEN
from dupq.hub.folder import open_folder, read_report
from dupq.hub.inspect import rewrite_card
from dupq.hub.manifest import FORMAT
from dupq.pipeline import SHIPPED, DuplicatePipeline
from tests.questions import labelled_table

CARDS = Path(__file__).resolve().parents[2] / "model_cards"
ABOUT = {
    "title": "Questions about hobbies",
    "summary": "For a forum of hobbyists.",
    "license": "apache-2.0",
    "languages": ["en"],
    "datasets": ["someone/hobbies"],
    "base_model": ["someone/tiny-bert"],
    "measured_on": {"name": "Hobby questions", "type": "someone/hobbies", "split": "test"},
    "training_data": "Phrases put together by rule.",
    "terms": "Free to use.",
    "leakage": "The base encoder has seen none of them.",
    "limits": "It knows nothing but hobbies.",
    "energy": "None worth telling.",
}


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "pipeline"))


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def tables(card: str) -> dict[str, list[list[str]]]:
    """First header cell -> rows."""
    found: dict[str, list[list[str]]] = {}
    for block in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in line.strip("| \n").split(" | ")] for line in block.splitlines()]
        found[header[0]] = rows
    return found


def check_against_report(card: str, report: Report, content: dict[str, Any]) -> None:
    """Every figure of the card is the report's, rounded as it stands there."""
    found = tables(card)
    names = {label: key for key, (_, label) in METRICS.items()}
    shown = {names[label]: value for label, value in found["figure"]}
    assert shown.keys() == report.metrics.keys() & METRICS.keys()
    for key, text in shown.items():
        metric = report.metrics[key]
        assert [float(number) for number in re.findall(r"-?\d+\.\d{4}", text)] == [
            round(value, 4) for value in (metric.value, metric.low, metric.high)
        ]
    assert f"{report.sample['pairs']:,} pairs in {report.sample['groups']:,} question groups" in card
    assert f"{report.sample['base_rate']:.1%} of them duplicates" in card
    assert f"base rate of {content['base_rate']:.1%}" in card
    for row, told in zip(report.base_rates, found["base rate"], strict=True):
        assert float(told[0]) == pytest.approx(row["base_rate"], rel=5e-3)
        shares = ("precision", "recall", "flagged", "review", "miss_rate")
        assert told[2:] == [f"{row[name]:.1%}" for name in shares]
    rule = content["rule"]
    cuts = [rule["duplicate"], *([rule["distinct"]] if rule["distinct"] else [])]
    assert [row[2] for row in found["from here on"]] == [f"{cut['score']:.3f}" for cut in cuts]
    assert [row[3] for row in found["from here on"]] == [cut["guarantee"] for cut in cuts]


def check_metadata(card: str, report: Report) -> None:
    """The client of the Hub reads it, and its model-index holds every figure with all its digits."""
    data = ModelCard(card).data
    assert data.library_name == "dupq"
    assert data.pipeline_tag == "text-classification"
    assert data.eval_results
    first = [result for result in data.eval_results if result.dataset_name == data.eval_results[0].dataset_name]
    assert {result.metric_type: result.metric_value for result in first} == {
        METRICS[key][0]: metric.value for key, metric in report.metrics.items() if key in METRICS
    }
    assert all(result.dataset_args["pairs"] == report.sample["pairs"] for result in first)
    assert ModelCard(str(ModelCard(card))).data.to_dict() == data.to_dict()


NUMBER = re.compile(r"(?<![\w.,-])-?\d[\d,]*(?:\.\d+)?%?(?!\w)")
OF_THE_TEMPLATE = {"95", "8", "0.01"}
"""95 % intervals, 8-bit weights, with_base_rate(0.01)."""


def leaves(data: Any) -> Iterator[Any]:
    """Every number and every text in plain data."""
    if isinstance(data, (dict, list, tuple)):
        for value in data.values() if isinstance(data, dict) else data:
            yield from leaves(value)
    elif isinstance(data, (int, float, str)) and not isinstance(data, bool):
        yield data


def unaccounted(card: str, report: Report, content: dict[str, Any]) -> set[str]:
    """The numbers on a card that are no rounded value of its report or manifest, and stand in none of their texts."""
    found = list(leaves([report.to_dict(), content]))
    texts = [value for value in found if isinstance(value, str)]
    rounded = set()
    for value in (value for value in found if not isinstance(value, str)):
        rounded |= {f"{value:,.{digits}f}" for digits in range(5)} | {f"{value:.3g}"}
        rounded |= {f"{value:.{digits}%}" for digits in range(3)}
    body = re.sub(r"```.*?```", "", card.split("\n---\n", 1)[1], flags=re.DOTALL)
    for text in sorted(texts, key=len, reverse=True):
        if len(text) > 5:
            body = body.replace(text, "")
    return set(NUMBER.findall(body)) - rounded - OF_THE_TEMPLATE


def test_every_number_is_the_reports(saved: Path) -> None:
    card, report, content = card_of(saved), read_report(saved), open_folder(saved)
    check_against_report(card, report, content)
    check_metadata(card, report)
    assert unaccounted(card, report, content) == set()
    # A better figure put in by hand is found out.
    value = f"{report.metrics['average_precision'].value:.4f}"
    assert unaccounted(card.replace(value, "0.9871"), report, content) == {"0.9871"}
    for name in re.findall(r"\]\(([^)]+)\)", card_of(saved)):
        assert (saved / name).is_file()
    assert (saved / "reliability.svg").read_text().startswith("<svg")


def test_the_cards_that_ship_are_what_code_makes_of_their_folder() -> None:
    cards = sorted(set(CARDS.glob("*.md")) - {CARDS / "README.md"})
    assert len(cards) == (SHIPPED / "dupq.json").is_file()
    for path in cards:
        content, report = open_folder(SHIPPED), read_report(SHIPPED)
        card = path.read_text(encoding="utf-8")
        assert card == render_card(content, report, "", f"{path.stem}."), f"run: dupq model card {SHIPPED} -o {path}"
        check_against_report(card, report, content)
        check_metadata(card, report)
        assert unaccounted(card, report, content) == set()
        for name in re.findall(r"\]\(([^)]+)\)", card):
            assert (CARDS / name).is_file()
        assert "Not stated" not in card


STATED = re.compile(r"^Written by dupq \S+, format (\d+)\.$", re.MULTILINE)


def test_the_format_on_a_card_is_that_of_its_folder(folder: Path) -> None:
    assert STATED.findall(card_of(folder)) == [str(open_folder(folder)["format"])] == [str(FORMAT)]


def test_the_format_on_the_pages_that_ship_is_the_codes() -> None:
    cards = sorted(set(CARDS.glob("*.md")) - {CARDS / "README.md"})
    assert [STATED.findall(path.read_text("utf-8")) for path in (SHIPPED / "README.md", *cards)] == [[str(FORMAT)]] * 2
    assert open_folder(SHIPPED)["format"] == FORMAT
    page = (SHIPPED / "README.md").read_text("utf-8")
    assert page == render_card(open_folder(SHIPPED), read_report(SHIPPED)), f"run: dupq model card {SHIPPED}"
    (row,) = re.findall(
        r"^\| `format` \| (\d+)\.", (CARDS.parent / "docs/reference/folder-format.md").read_text("utf-8"), re.MULTILINE
    )
    assert int(row) == FORMAT


def test_figures_of_the_calibration_pairs_are_no_figures_of_another_forum(folder: Path, tmp_path: Path) -> None:
    content, report = open_folder(folder), read_report(folder)
    own = content["rule"]["table"]["data_fingerprint"]
    calibrated = replace(report, about={**report.about, "data_fingerprint": own})
    with pytest.raises(LeakError, match=r"Other forum: .*calibrated on"):
        rewrite_card(folder, reports={"Other forum": calibrated})
    unnamed = replace(report, about={key: value for key, value in report.about.items() if key != "data_fingerprint"})
    with pytest.raises(InputError, match="does not name the pairs"):
        rewrite_card(folder, reports={"Other forum": unnamed})
    (tmp_path / "own.json").write_text(json.dumps(calibrated.to_dict()))
    assert main(["model", "card", str(folder), "--elsewhere", f"Other forum={tmp_path / 'own.json'}"]) == 2
    assert "Other forum" not in card_of(folder)
    # Where an earlier version measured, or the pipeline does not know its own questions, the card says so.
    rewrite_card(folder, reports={"Cooking, old": replace(report, about={**report.about, "measured_on": "not known"})})
    assert "\nNot checked for questions that it was calibrated on: Cooking, old.\n" in card_of(folder)
    rewrite_card(folder, reports={"Cooking, old": replace(report, about={**report.about, "measured_on": UNSEEN})})
    assert "Not checked" not in card_of(folder)
    # A row that an earlier version took is left out of the card and of its metadata.
    rewrite_card(folder, reports={"Other forum": report})
    content = open_folder(folder)
    content["facts"]["card"]["external_results"] = content["facts"]["card"]["external_results"][-1:]
    content["facts"]["card"]["external_results"][0]["data_fingerprint"] = own
    card = render_card(content, report)
    assert "other questions" not in tables(card)
    assert "Figures on Other forum are of the pairs it was calibrated on, and are left out." in card
    assert len({result.dataset_name for result in ModelCard(card).data.eval_results or []}) == 1


def test_what_its_maker_tells_stands_on_the_card_and_stays(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "about.json").write_text(json.dumps(ABOUT))
    other = DuplicatePipeline.from_pretrained(folder).report
    (tmp_path / "other.json").write_text(json.dumps(other.to_dict()))
    arguments = ["model", "card", str(folder), "--about", str(tmp_path / "about.json")]
    assert main([*arguments, "--elsewhere", f"Other forum={tmp_path / 'other.json'}"]) == 0
    card = card_of(folder)
    data = ModelCard(card).data
    assert (data.license, data.language, data.datasets) == ("apache-2.0", ["en"], ["someone/hobbies"])
    assert data.base_model == ["someone/tiny-bert"]
    assert data.model_name == "Questions about hobbies"
    places = {(result.dataset_name, result.dataset_type, result.dataset_split) for result in data.eval_results or []}
    assert places == {("Hobby questions", "someone/hobbies", "test"), ("Other forum", "other-forum", "test")}
    for key in ("summary", "training_data", "terms", "leakage", "limits", "energy"):
        assert ABOUT[key] in card
    (row,) = tables(card)["other questions"]
    assert row[:2] == ["Other forum", f"{other.sample['pairs']:,}"]
    for cell, key in zip(row[3:], ("average_precision", "accuracy", "ece_mass"), strict=True):
        metric = other.metrics[key]
        assert cell == f"{metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})"
    check_against_report(card, read_report(folder), open_folder(folder))
    # It goes wherever the pipeline goes.
    DuplicatePipeline.from_pretrained(folder).save(tmp_path / "again")
    assert card_of(tmp_path / "again") == card


def test_figures_on_other_questions_are_of_this_pipeline_or_left_out(folder: Path, tmp_path: Path) -> None:
    pipeline = DuplicatePipeline.from_pretrained(folder)
    report = pipeline.report
    few = replace(report, sample={**report.sample, "groups": 12})
    chained = replace(report, sample={**report.sample, "largest_group": report.sample["pairs"] - 5})
    rewrite_card(folder, reports={"Small": few, "Chained": chained, "Whole": report})
    rows = {row[0]: row for row in tables(card_of(folder))["other questions"]}
    assert [" to " in rows[name][3] for name in ("Small", "Chained", "Whole")] == [False, False, True]
    assert "none where these are too few" in card_of(folder)
    # The same figures do not speak of the pipeline at other thresholds, and are not offered as if they did.
    pipeline = DuplicatePipeline.from_pretrained(folder)
    moved = pipeline.with_base_rate(0.1)
    moved.save(tmp_path / "moved")
    card = card_of(tmp_path / "moved")
    assert "other questions" not in tables(card)
    assert "Figures on Small, Chained, Whole are older than its last calibration" in card
    assert len({result.dataset_name for result in ModelCard(card).data.eval_results or []}) == 1
    with pytest.raises(InputError, match="another pipeline"):
        rewrite_card(tmp_path / "moved", reports={"Whole": report})
    about = {**report.about, "scorer_fingerprint": "0" * 16}
    with pytest.raises(InputError, match=r"Foreign: .*another pipeline"):
        rewrite_card(folder, reports={"Foreign": replace(report, about=about)})


def test_contrast_cases_stand_where_it_fails(folder: Path) -> None:
    report = read_report(folder)
    shown = {"kind": "negation", "pairs": 40, "distinct": 0.9, "error": 0.375, "low": 0.05, "high": 0.5}
    rows = [{**shown, "false_flags": 0.4}, {**shown, "kind": "none", "distinct": 0.0, "false_flags": None}]
    card = render_card(open_folder(folder), replace(report, conflicts=rows))
    assert tables(card)["conflict"] == [
        ["negation", "40", "90.0%", "37.5% (5.0% to 50.0%)", "40.0%", "15.0%"],
        ["none", "40", "0.0%", "37.5% (5.0% to 50.0%)", "-", "37.5%"],
    ]
    assert "conflict" not in tables(render_card(open_folder(folder), replace(report, conflicts=())))


def test_a_card_alone_is_written_elsewhere_with_its_pictures(folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(["model", "card", str(folder), "-o", str(tmp_path / "cards/hobby.md")]) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    card = (tmp_path / "cards/hobby.md").read_text()
    linked = set(re.findall(r"\]\(([^)]+)\)", card))
    assert linked == {
        f"hobby.{name}" for name in ("reliability.svg", "precision_recall.svg", "histogram.svg", "report.html")
    }
    assert all((tmp_path / "cards" / name).is_file() for name in linked)


def test_an_edited_card_is_written_anew(folder: Path) -> None:
    card = card_of(folder)
    (folder / "README.md").write_text("average precision: 1.0000")
    assert main(["model", "inspect", str(folder)]) == 0
    assert main(["model", "card", str(folder)]) == 0
    assert card_of(folder) == card
    open_folder(folder)


@pytest.mark.parametrize("name", ["LICENSE", "LICENSE-WEIGHTS", "picture.png", "paper.PDF", "CITATION"])
def test_a_card_is_written_beside_what_lies_there_for_people(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(b"for people")
    assert main(["model", "card", str(folder)]) == 0
    assert name not in open_folder(folder)["files"]
    DuplicatePipeline.from_pretrained(folder).save(folder)
    assert (folder / name).read_bytes() == b"for people"
    (folder / "cross-encoder" / name).write_bytes(b"for people")
    assert main(["model", "card", str(folder)]) == 2


def test_figures_of_the_calibration_pairs_are_called_so(pipeline: DuplicatePipeline, tmp_path: Path) -> None:
    table = labelled_table()
    replace(pipeline, rule=None, calibrator=None).calibrate(table).save(tmp_path / "in-sample")
    card = card_of(tmp_path / "in-sample")
    assert "The calibrator and the thresholds were fitted on these pairs" in card
    assert {result.dataset_split for result in ModelCard(card).data.eval_results or []} == {"calibration"}


def test_thresholds_chosen_anew_since_the_report_are_told(
    pipeline: DuplicatePipeline, saved: Path, tmp_path: Path
) -> None:
    assert "The thresholds have changed since" not in card_of(saved)
    moved = pipeline.with_base_rate(0.1)
    moved.save(tmp_path / "moved")
    card = card_of(tmp_path / "moved")
    assert "base rate of 10.0%" in card
    assert "The thresholds have changed since" in card
    assert "base rate" not in tables(card)  # the report's rows speak of the earlier thresholds
    assert tables(card)["from here on"][0][1] == f"{moved.threshold:.3f}"


def test_an_uncalibrated_pipeline_has_an_honest_card(tiny_bi_encoder: Path, tmp_path: Path) -> None:
    DuplicatePipeline.from_networks(None, tiny_bi_encoder).save(tmp_path / "bare")
    card = card_of(tmp_path / "bare")
    assert "It is uncalibrated" in card
    assert "It has not been measured" in card
    assert "raw_scores" in card
    data = ModelCard(card).data
    assert data.pipeline_tag == "sentence-similarity"
    assert data.eval_results is None


def test_networks_that_stock_loaders_do_not_open_are_not_offered_to_them(saved: Path) -> None:
    content = open_folder(saved)
    networks = {name: {**network, "form": "onnx-int8"} for name, network in content["networks"].items()}
    card = render_card({**content, "networks": networks}, read_report(saved))
    assert "from sentence_transformers" not in card
    assert "sentence-transformers does not open them" in card
    assert "onnx" in (ModelCard(card).data.tags or [])


def test_no_path_of_this_machine_is_shared(pipeline: DuplicatePipeline, tmp_path: Path) -> None:
    record = {
        "settings": {"base": str(tmp_path / "secret-project" / "base"), "epochs": 2},
        "data": {"pairs": 1234, "base_rate": 0.25, "fingerprint": "1234-abc"},
        "seconds": 4321.0,
        "log": [[str(tmp_path / "x")]],
    }
    replace(pipeline, facts={"training": {"cross_encoder": record}}).save(tmp_path / "shared")
    text = (tmp_path / "shared/dupq.json").read_text() + card_of(tmp_path / "shared")
    assert str(tmp_path) not in text
    facts = open_folder(tmp_path / "shared")["facts"]["training"]["cross_encoder"]
    assert facts["settings"] == {"base": "base", "epochs": 2}
    assert facts["log"] == [["x"]]
    assert "| cross-encoder | base | 1,234 | 25.0% | 2 | `1234-abc` |" in card_of(tmp_path / "shared")
    assert "4,321" in card_of(tmp_path / "shared")
    averaged = {"kind": "cross-encoder", "members": [record, None, record]}
    replace(pipeline, facts={"training": {"cross_encoder": averaged}}).save(tmp_path / "averaged")
    assert "| cross-encoder, part 3 | base | 1,234 |" in card_of(tmp_path / "averaged")


@pytest.mark.parametrize(
    ("about", "word"),
    [
        ({"titel": "x"}, "titel"),
        ({"title": 7}, "title"),
        ({"languages": "en"}, "languages"),
        ({"languages": ["English"]}, "languages"),
        ({"datasets": [1]}, "datasets"),
        ({"datasets": ["my own questions"]}, "datasets"),
        ({"base_model": ["/home/me/base"]}, "base_model"),
        ({"base_model": ["me/a--b"]}, "base_model"),
        ({"measured_on": {"name": "Ours", "type": "our questions"}}, "measured_on"),
        ({"license": "Apache 2.0"}, "license"),
        ({"license": "other"}, "license_name"),
        ({"measured_on": {"split": "test"}}, "measured_on"),
        ([], "no JSON object"),
    ],
)
def test_what_is_told_wrongly_is_named(tmp_path: Path, about: Any, word: str) -> None:
    (tmp_path / "about.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=word):
        read_about(tmp_path / "about.json")


def test_what_is_told_of_the_shipped_model_is_what_the_hub_takes() -> None:
    about = read_about(CARDS.parent / "data_scripts" / "shipped_model.json")
    assert about["license"] == "other"
    assert about["license_link"].startswith("https://")
    assert about["measured_on"]["type"] in about["datasets"]


def test_wrong_arguments_are_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.json").write_text("{}")
    for arguments, word in (
        (["--about", str(tmp_path / "missing.json")], "missing.json"),
        (["--elsewhere", "nothing"], "NAME=REPORT.json"),
        (["--elsewhere", f"x={tmp_path / 'no.json'}"], "no report"),
    ):
        assert main(["model", "card", str(folder), *arguments]) == 2
        assert word in capsys.readouterr().err
    assert main(["model", "card", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    "damage",
    [
        {"facts": {"card": {"external_results": [{}]}}},
        {"facts": {"card": {"external_results": 7}}},
        {"facts": {"training": []}},
        {"facts": {"training": {"x": {"data": {}}}}},
        {"rule": {"x": 1}},
        {"networks": {"cross-encoder": {}}},
    ],
)
def test_a_manifest_that_no_card_can_be_made_of_is_told(saved: Path, damage: dict[str, Any]) -> None:
    with pytest.raises(ModelFolderError):
        render_card({**open_folder(saved), **damage}, read_report(saved))
