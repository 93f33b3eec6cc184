"""A name that may mean several trials is refused with a list of them, by every command that takes one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from finished_projects import Finish
from sample_results import result_of, spec_of
from tiny_project import Call

from harness.trial.folder import write_result, write_spec

Captured = pytest.CaptureFixture[str]
NAME = "caan/tiny/s0"
SHORT, LONG = 1, 2  # epochs
EXPLAIN = ("explain", "--method", "caan", "--image", "test-0001b", "--dataset", "tiny")
ROW = re.compile(
    r"^  (\w{16})  recipe (\w{8})  rsum (\d+\.\d)  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC  training.epochs (\d)$"
)


@pytest.fixture
def two(finish: Finish) -> dict[int, str]:
    """The keys of two trials of one name, by their epochs."""
    run = ("run", "--here", "--methods", "caan", "-q", "-s")
    project = finish(*((*run, f"training.epochs={epochs}") for epochs in (LONG, SHORT)))
    specs = [json.loads(file.read_text()) for file in (project / "runs" / "trials").glob("*/result.json")]
    files = [file.parent.name for file in (project / "runs" / "trials").glob("*/result.json")]
    return {one["spec"]["training"]["epochs"]: key for key, one in zip(files, specs, strict=True)}


@pytest.mark.parametrize(
    "words",
    [
        ("reproduce", NAME, "-n"),
        ("export", NAME, "--format", "csv"),
        ("compare", NAME, NAME),
        ("forget", NAME, "-y"),
        (*EXPLAIN, "--run", NAME),
        (*EXPLAIN, "-s", "training.epochs=7"),
    ],
    ids=["reproduce", "export", "compare", "forget", "explain --run", "explain of no configured trial"],
)
def test_a_name_of_several_trials_is_refused_with_key_recipe_rsum_and_date_of_each(
    two: dict[int, str], call: Call, capsys: Captured, words: tuple[str, ...]
) -> None:
    assert call(*words) == 2
    first, *listed = capsys.readouterr().err.splitlines()
    assert first == f"harness: error: {NAME} may be any of 2 trials; give the key of one:"
    rows = [match for line in listed if (match := ROW.match(line))]
    assert len(rows) == len(listed) and {int(row[4]): row[1] for row in rows} == two
    assert not Path("export").exists() and len(list(Path("runs/trials").iterdir())) == 2
    results = {key: json.loads(Path(f"runs/trials/{key}/result.json").read_text()) for key in two.values()}
    assert all(row[3] == f"{results[row[1]]['measures']['rsum']:.1f}" for row in rows)


@pytest.mark.slow
def test_the_key_of_one_is_taken_by_all_of_them(two: dict[int, str], call: Call, capsys: Captured) -> None:
    short, long = (two[epochs][:8] for epochs in (SHORT, LONG))
    for epochs, key in ((SHORT, short), (LONG, long)):
        assert call("export", key, "--format", "csv", "-o", f"of-{epochs}") == 0
        assert call(*EXPLAIN, "--run", key, "--json") == 0
        assert json.loads(capsys.readouterr().out.partition("exported\n")[2])["trial"] == two[epochs]
    assert call("compare", short, long) == 0
    assert call("forget", short, "-y") == 0
    capsys.readouterr()
    assert call("reproduce", NAME, "-n") == 0, "one is left"


def test_describe_refuses_a_name_of_a_method_and_a_dataset_until_told_which(
    project: Path, call: Call, capsys: Captured
) -> None:
    card = project / "cards" / "tiny" / "card.toml"
    card.write_text(card.read_text().replace('name = "tiny"', 'name = "vsepp"'))
    flags = ("--json", "-s", 'campaign.datasets=["vsepp"]')
    assert call("describe", "vsepp", *flags) == 2
    assert "vsepp is a method and a dataset; say which by --kind method or --kind dataset" in capsys.readouterr().err
    for kind, key in (("method", "scoring"), ("dataset", "layout")):
        assert call("describe", "vsepp", "--kind", kind, *flags) == 0
        assert key in json.loads(capsys.readouterr().out)
    assert call("describe", "caan", "--kind", "dataset", *flags) == 2
    assert "unknown dataset 'caan'" in capsys.readouterr().err


def test_forget_refuses_a_name_of_a_method_and_a_scored_model_until_told_which(
    project: Path, call: Call, capsys: Captured
) -> None:
    for number, method in enumerate(("caan", "external:caan", "external:clip")):
        result = result_of(spec_of(method, number))
        write_spec(project / "runs" / "trials" / result.key, result.spec)
        write_result(project / "runs" / "trials" / result.key, result)
    assert call("forget", "caan", "-y") == 2
    said = "caan is a method and a model of `harness score`; give external:caan or method:caan"
    assert said in capsys.readouterr().err
    for name, label in (("clip", "external:clip"), ("external:caan", "external:caan"), ("method:caan", "caan")):
        assert call("forget", name, "-n", "--json") == 0
        (one,) = json.loads(capsys.readouterr().out)["trials"]
        assert one["label"].startswith(f"{label}/")
    assert call("forget", "external:caan", "-y") == call("forget", "caan", "-y") == 0, "one of them is left"


def test_reproduce_says_first_which_trial_it_runs(two: dict[int, str], call: Call, capsys: Captured) -> None:
    for key in two.values():
        result = json.loads(Path(f"runs/trials/{key}/result.json").read_text())
        assert call("reproduce", key, "-n", "--json") == 0
        out = capsys.readouterr()
        data = json.loads(out.out)
        rsum = result["measures"]["rsum"]
        assert (data["key"], data["rsum"]) == (key, rsum)
        expected = f"{NAME}: key {key}, recipe {data['recipe'][:8]}, rsum {rsum:.1f}"
        assert out.err.splitlines()[0] == expected


@pytest.mark.slow
def test_a_method_of_several_rows_is_refused_with_the_runs_of_each(
    two: dict[int, str], call: Call, capsys: Captured
) -> None:
    assert call("run", "--here", "--methods", "chance", "-q") == 0
    capsys.readouterr()
    for words in (("compare", "caan", "chance"), ("export", "caan", "--format", "csv")):
        assert call(*words) == 2
        err = capsys.readouterr().err
        assert "caan has several rows on tiny/all; name one of 'caan (training.epochs" in err
        assert all(
            re.search(rf"recipe \w{{8}}, rsum \d+\.\d, n = 1, .* UTC, keys {key}\n", err) for key in two.values()
        )
    assert call("compare", two[SHORT], "chance") == 2
    assert "are a row and a run; give two rows or two runs" in capsys.readouterr().err
