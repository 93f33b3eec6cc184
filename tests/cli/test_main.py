"""The command line: what each command says, and the exit code of everything that can go wrong before a trial."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path

import jsonschema
import pytest
from tiny_project import Call, in_a_new_process

from harness import __version__

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "mlflow", "optuna", "pandas")


def test_help_imports_nothing_heavy() -> None:
    out, imported = in_a_new_process("--help")
    assert not imported
    assert all(name in out for name in ("run", "list", "describe", "report", "status", "init"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "light"),
    [
        (("list", "--json"), HEAVY),
        (("describe", "vsepp"), HEAVY),
        (("run", "-n", "--json"), HEAVY),
        (("status",), HEAVY),
    ],
)
def test_what_lists_and_plans_imports_nothing_heavy(project: Path, words: tuple[str, ...], light: tuple[str]) -> None:
    assert not in_a_new_process(*words)[1] & set(light)


def test_version(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"harness {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rum",), "No such command 'rum'. (Did you mean one of: 'resume', 'run'?)"),
        (("run", "--metods", "vsepp"), "No such option '--metods'. (Did you mean one of: '--methods'"),
        (("run", "--methods", "vsep"), "unknown method 'vsep'; did you mean vsepp"),
        (("run", "--methods", "vsepp,scann_*"), "unknown method 'scann_*'; did you mean scan_"),
        (("run", "--datasets", "tinny"), "unknown dataset 'tinny'; did you mean tiny"),
        (("run", "--protocol", "al"), "unknown protocol 'al'; did you mean all"),
        (("run", "-s", "training.epoch=3"), "unknown key 'training.epoch'; did you mean training.epochs"),
        (("run", "-s", "settings.vsepp.margn=0.1"), "unknown setting 'margn'; did you mean margin"),
        (("run", "-s", "training.epochs"), "write it as key=value"),
        (("run", "-s", "training.epochs=many"), "training.epochs"),
        (("run", "-s", "resources.device=gpu"), "resources.device"),
        (("run", "--seeds", "0,x"), "'0,x' is no list of whole numbers such as 0,1,2"),
        (("run", "--seeds", "-1"), "'-1' is no list of whole numbers"),
        (("run", "--limit", "0"), "--limit 0: give at least 1 image"),
        (("run", "--device", "gpu"), "'gpu' is none of auto, cpu, cuda"),
        (("run", "--cpus-per-trial", "500", "--max-concurrent", "1"), "500 CPUs and 0 GPUs"),
        (("run", "--gpus-per-trial", "-2"), "-2"),
        (("run", "--cpus-per-trial", "0"), "resources.cpus_per_trial"),
        (("run", "--plugin", "absent.toml"), "--plugin absent.toml: no such file"),
        (("run", "-c", "absent.toml"), "absent.toml: no such file"),
        (("list", "method"), "methods"),
        (("describe", "tinny"), "unknown method or dataset 'tinny'; did you mean tiny"),
        (("status", "--methods", "vsep"), "did you mean vsepp"),
        (("explain", "--method", "caan+vsepp"), "caan+vsepp is an ensemble and has no card and no weights of its own"),
        (("describe", "caan+vsepp"), "caan+vsepp is an ensemble"),
        (("validate", "caan+vsepp"), "name a member: caan or vsepp"),
        (("describe", "vsepp@8:caan", "--kind", "method"), "vsepp@8:caan is a reranking and has no card"),
        (("run", "--protocol", ""), "Invalid value for '--protocol': it is empty"),
        (("run", "-s", ""), "it is empty; give a value, or leave it out"),
        (("explain", "--image", ""), "Invalid value for '--image': it is empty"),
        (("explain", "--dataset", ""), "it is empty"),
        (("explain", "-o", ""), "it is empty; name a file"),
        (("retrieve", "--image", ""), "it is empty"),
        (("resume", ""), "it is empty"),
        (("export", "a", "--weights", "w", "--dataset", "tiny"), "--dataset is of rankings, for --format"),
        (("export", "a", "--weights", "w", "--protocol", "all"), "--protocol is of rankings"),
        (("export", "a", "--weights", "w", "-o", "export"), "-o is of rankings"),
        (("retrieve", "--text", "a", "--model", "m"), "--model and --weights are for pictures of your own"),
        (("retrieve", "--text", "a", "--weights", "w"), "--model and --weights are for pictures of your own"),
        (("looks", "a", "--device", "cpu"), "--device is for --score"),
        (("explain", "--method", "caan", "--run", "abcdef", "--seed", "1"), "leave out --seed and --protocol"),
        (("validate", "--kind", "method"), "--kind says which NAME is meant"),
        (("describe", "--schema", "method", "--kind", "method"), "--kind says which NAME is meant"),
        (("run", "--fail-fast", "--max-failures", "2"), "--fail-fast and --max-failures: give one of them"),
        (("init", "-q", "dataset", "mine"), "give flags behind the name"),
    ],
)
def test_a_wrong_word_ends_with_2_and_its_nearest_neighbours(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert call(*words) == 2
    out, err = capsys.readouterr()
    assert err.startswith("harness: error: ") and said in err, err
    assert "Traceback" not in err and "✓" not in out
    assert not (project / "runs" / "trials").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("cards/nan.toml", 'scoring = "embedding"\n', "", "the key 'scoring' is missing"),
        ("cards/nan.toml", "summary", "sumary", "unknown key 'sumary'; did you mean summary"),
        ("cards/tiny/card.toml", "licence", "license", "unknown key 'license'; did you mean licence"),
        ("cards/tiny/card.toml", "[splits]", "[splits", "card.toml"),
        (
            "harness.toml",
            "batch_size",
            "batchsize",
            "unknown key 'training.batchsize'; did you mean training.batch_size",
        ),
    ],
)
def test_a_wrong_file_ends_with_2_naming_file_and_field(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, said: str
) -> None:
    path = project / file
    path.write_text(path.read_text().replace(old, new, 1))
    assert call("run", "-n") == 2
    err = capsys.readouterr().err
    assert str(path) in err and said in err


def test_absent_data_ends_with_3_and_says_which_files_where_from_and_where_to_put_them(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "--datasets", "coco-objects") == 3
    err = capsys.readouterr().err
    for part in ("captions_val2017.json", "https://cocodataset.org", str(project / "data"), "HARNESS_DATA"):
        assert part in err


def test_data_that_do_not_match_their_card_end_with_3_and_both_numbers(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    card = project / "cards" / "tiny" / "card.toml"
    lines = card.read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("val ="))
    captions = lines[place].split()[-2]
    lines[place] = "val = { images = 8, captions = 999 }"
    card.write_text("\n".join(lines))
    assert call("run") == 3
    err = capsys.readouterr().err
    assert "999" in err and captions in err
    assert not (project / "runs" / "trials").exists()


def test_a_results_folder_that_cannot_be_written_ends_with_6_before_training(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "-s", "paths.results=harness.toml") == 6
    assert "harness.toml cannot be written" in capsys.readouterr().err


def test_a_store_that_is_away_ends_with_6_before_training(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    away = ("-s", f"tracking.uri=sqlite:///{project}/harness.toml")
    assert call("run", "--here", *away) == 6
    assert call("report", *away) == 6
    assert "tracking store" in capsys.readouterr().err
    assert not (project / "runs" / "trials").exists()


def test_a_report_before_any_run_ends_with_6_and_makes_no_store(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "runs" / "mlflow.db").unlink()
    assert call("report") == 6
    assert "there is no tracking store" in capsys.readouterr().err
    assert not (project / "runs" / "mlflow.db").exists()


def test_verbose_shows_the_traceback_of_an_error(project: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("describe", "tinny", "-v") == 2
    assert "Traceback" in capsys.readouterr().err


def test_dry_run_lists_the_exact_trials_and_what_is_done_and_starts_nothing(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--methods", "chance,vsepp", "--seeds", "1,0,1", "--limit", "4")
    assert call("run", "-n", "--json", *words) == 0
    plan = json.loads(capsys.readouterr().out)
    labels = [trial["label"] for trial in plan["trials"]]
    assert labels == [f"{method}/tiny/s{seed}" for seed in (1, 0) for method in ("chance", "vsepp")]
    assert {trial["state"] for trial in plan["trials"]} == {"new"} and plan["counts"] == {"new": 4}
    assert {trial["limit"] for trial in plan["trials"]} == {4} and len({t["key"] for t in plan["trials"]}) == 4
    assert "local Ray" in plan["executor"]
    assert not (project / "runs" / "trials").exists()
    assert call("run", "-n", *words) == 0
    page = capsys.readouterr().out
    assert all(label in page for label in labels) and "4 trials to run · local Ray" in page


def test_dry_run_refuses_a_cluster_that_is_away_as_the_run_does(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    for command in ("run", "search"):
        assert call(command, "-n", "--methods", "vsepp") == call(command, "--methods", "vsepp") == 2
        assert capsys.readouterr().err.count("127.0.0.1:1 (from RAY_ADDRESS)") == 2
    assert call("run", "-n", "--here") == 0
    assert "in this process" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "name"), [("methods", "vsepp"), ("datasets", "tiny"), ("protocols", "all")])
def test_list_shows_every_card_to_people_and_as_json(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> None:
    assert call("list", kind) == 0
    assert name in capsys.readouterr().out
    assert call("list", kind, "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert name in [card["name"] for card in listed]
    assert call("list", "--json") == 0
    assert json.loads(capsys.readouterr().out)[kind] == listed


def test_list_shows_a_third_party_card_by_path(project: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "cards" / "nan.toml").rename(project / "elsewhere.toml")
    (project / "faulty.py").write_text((project / "cards" / "faulty.py").read_text())
    assert call("list", "methods", "--plugin", "elsewhere.toml", "--json") == 0
    assert "nan" in [card["name"] for card in json.loads(capsys.readouterr().out)]


def test_describe_shows_settings_ranges_and_the_papers_numbers(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("describe", "caan") == 0
    page = capsys.readouterr().out
    for part in ("CVPR 2020", "Choices", "margin", "Reported by the paper", "f30k", "fragment"):
        assert part in page
    assert call("describe", "caan", "--json") == 0
    assert json.loads(capsys.readouterr().out)["class"] == "methods.caan:CAAN"


def test_describe_shows_what_a_dataset_wants_otherwise(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("-s", "settings.caan.dim=64", "-s", "per_dataset.coco-objects.settings.caan.dim=48")
    assert call("describe", "caan", *flags) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    (dim,) = (line.split() for line in lines if line.startswith("dim "))
    assert dim[1:3] == ["1024", "64"]
    assert "on coco-objects: dim 48, width 32" in lines


FILES = {
    "method": [*(ROOT / "methods").glob("*.toml")],
    "dataset": [*(ROOT / "datasets").glob("*/card.toml")],
    "harness.toml": [ROOT / "harness.toml", ROOT / "harness" / "config" / "defaults.toml"],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_the_schema_of_a_kind_of_file_accepts_every_file_here_and_no_unknown_key(
    call: Call, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    assert call("describe", "--schema", kind) == 0
    schema = json.loads(capsys.readouterr().out)
    for file in FILES[kind]:
        table = tomllib.loads(file.read_text())
        jsonschema.validate(table, schema)
        with pytest.raises(jsonschema.ValidationError, match="sumary"):
            jsonschema.validate({**table, "sumary": ""}, schema)


@pytest.mark.parametrize("words", [(), ("caan", "--schema", "method"), ("--schema", "card")])
def test_describe_wants_one_name_or_one_kind_of_file(
    call: Call, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert call("describe", *words) == 2
    assert "method" in capsys.readouterr().err


def test_describe_shows_a_dataset(project: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("describe", "coco-objects") == 0
    page = " ".join(capsys.readouterr().out.split())
    for part in ("3,452", "1k", "instances_val2017.json", "CC BY 4.0", "coco_val2017", "seen 4 times or more in train"):
        assert part in page
    assert "trained with settings.*.width=32 folder" in page, "dim and epochs are those of harness.toml"


def test_describe_shows_what_reads_the_captions_of_a_dataset(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("describe", "flickr8k-minilm.noise0.2-s1") == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "text encoder minilm options" in page and "training.encoder_lr=0.0" in page


def test_nothing_is_coloured_where_stdout_is_no_terminal(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "-n") == 0
    assert "\x1b" not in capsys.readouterr().out


def test_init_writes_a_commented_file_once(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("init") == 0
    written = (tmp_path / "harness.toml").read_text()
    assert call("list", "methods") == 0
    (tmp_path / "harness.toml").write_text("# mine\n")
    assert call("init") == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "harness.toml").read_text() == "# mine\n"
    assert call("init", "--force") == 0
    assert (tmp_path / "harness.toml").read_text() == written


@pytest.mark.parametrize("command", ["run", "search"])
@pytest.mark.parametrize(
    "words",
    [
        ("--gpus-per-trial", "64"),
        ("--cpus-per-trial", "6400"),
        ("-s", "resources.custom.a100=1"),
        ("-s", "paths.reports=harness.toml"),
        ("-s", "paths.results=harness.toml/x"),
        ("--here", "--device", "cuda"),
    ],
)
def test_dry_run_refuses_what_the_run_refuses_and_makes_nothing(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], command: str, words: tuple[str, ...]
) -> None:
    codes, texts = [], []
    for flags in (("-n",), ()):
        codes.append(call(command, "--methods", "vsepp", "-s", "paths.results=fresh", *words, *flags))
        texts.append(capsys.readouterr().err)
        assert not flags or not (project / "fresh").exists()
    assert codes[0] == codes[1] != 0 and texts[0] == texts[1]


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--gpus-per-trial", "64"), ("--cpus-per-trial", "6400"), ("--device", "cuda")])
def test_resources_that_are_not_there_are_refused_where_nothing_is_to_do_too(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert call("run", "--methods", "chance", "--here") == 0
    for flags in ((), ("-n",), ("--here",), ("--here", "-n")):
        fits = "--here" in flags and "cuda" not in words
        assert call("run", "--methods", "chance", *words, *flags) == (0 if fits else 2)
    assert call("run", "--methods", "chance") == 0


@pytest.mark.parametrize("command", ["run", "search"])
def test_dry_run_makes_no_folder_and_says_which_file_is_in_force(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert call(command, "-n", "--methods", "vsepp", "-s", "paths.results=fresh") == 0
    assert "configuration: harness.toml" in capsys.readouterr().out
    assert not (project / "fresh").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("7", "2026-11-26", "[1]", "a b/c?#%20"),
        *(pytest.param(name, marks=pytest.mark.soak) for name in ("true", "1e3", "inf", "x" * 200, "été ✓")),
    ],
)
def test_a_campaign_may_be_named_like_a_number_a_date_or_at_length(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for words in (("--campaign", name), ("-s", f"campaign.name={name}")):
        assert call("search", "-n", "--methods", "vsepp", *words) == 0, capsys.readouterr().err
    assert call("search", "--methods", "vsepp", "--here", "--trials", "1", "--campaign", name) == 0
    assert call("status", name) == 0
    assert name in capsys.readouterr().out
    assert call("report") == 0


@pytest.mark.parametrize("name", ["", " ", "-x", "x" * 201])
def test_a_campaign_without_a_name_is_refused(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert call("search", "--methods", "vsepp", "--campaign", name) == 2
    assert "campaign.name: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-s", "training.epochs=1000000000"), "less than or equal to 100000"),
        (("-s", "resources.max_concurrent=99999999999999999999"), "more than 64 bits"),
        (("-s", f"training.epochs={'9' * 5000}"), "thousands of digits"),
        (("-s", f"training.epochs=0x{'f' * 5000}"), "more than 64 bits"),
        (("-s", f"training.lr={'[' * 5000}"), "hundreds deep"),
        (("-s", f"{'a.' * 100_000}b=1"), "a key of more than 32 parts"),
        (("-s", f"training.lr={{{'a.' * 100_000}b=1}}"), "a dotted key of more than 32 parts"),
        (("-s", "campaign=1"), "campaign"),
        (("-s", "per_dataset=1", "-s", "training.epochs=1"), "per_dataset"),
        (("-s", "epochs=1"), "unknown key 'epochs'; did you mean"),
        (("-s", "paths.data=~nobody-of-this-name/x"), "home"),
        (("-s", 'paths.results="a\\u0000b"'), "null"),
        (("-s", f"paths.results={'x' * 5000}"), "too long"),
        (("-s", "paths.results=a?b"), "? cannot stand in the address of the tracking store"),
        (("-s", "paths.results=a%20b"), "% cannot stand in the address of the tracking store"),
        (("--seeds", "0-99999999"), "more than 10,000"),
        (("--seeds", "4-0"), "no seeds"),
        (("--seeds", "²"), "is no list of whole numbers"),
    ],
)
def test_limits_of_the_command_line_end_at_once_with_2(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    began = time.monotonic()
    assert call("run", "-n", *words) in (2, 6)
    err = capsys.readouterr().err
    assert said in err and len(err) < 2000
    assert time.monotonic() - began < 5


def test_epochs_alone_lead_to_the_key_of_training(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "-n", "-s", "epochs=1") == 2
    assert "training.epochs" in capsys.readouterr().err


def test_seeds_may_be_ranges(project: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "-n", "--json", "--methods", "chance", "--seeds", "0-2,7") == 0
    assert [trial["seed"] for trial in json.loads(capsys.readouterr().out)["trials"]] == [0, 1, 2, 7]


@pytest.mark.parametrize("file", ["harness.toml", "cards/nan.toml", "cards/tiny/card.toml"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 100_000, "hundreds deep"),
        ("a = " + "{b = " * 5000, "hundreds deep"),
        ("a" + ".a" * 100_000 + " = 1", "more than 32 parts"),
        ("[" + '"a".' * 100_000 + "a]", "more than 32 parts"),
        ("a = " + "1" * 5000, "thousands of digits"),
        ("a = 18446744073709551616", "more than 64 bits"),
        (None, "larger than 4 MB"),
    ],
)
def test_a_file_beyond_all_limits_ends_at_once_with_2_and_its_name(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], file: str, text: str | None, said: str
) -> None:
    began = time.monotonic()
    if text is None:
        with (project / file).open("r+") as stream:
            stream.truncate(10 << 30)
    else:
        (project / file).write_text(text)
    assert call("list") == 2
    err = capsys.readouterr().err
    assert file in err and said in err and len(err) < 2000
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("number", ["inf", "nan", "-inf"])
def test_a_reported_number_that_is_not_finite_is_refused_at_the_card(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    with (project / "cards" / "nan.toml").open("a") as card:
        card.write(f"[[reported]]\ndataset = 'tiny'\nprotocol = 'all'\ni2t = [1, 2, 3]\nt2i = [1, 2, {number}]\n")
        card.write(f"rsum = {number}\nsource = 'Table 1'\n")
    assert call("list", "--json") == 2
    err = capsys.readouterr().err
    assert "reported[0].rsum: " in err and "reported[0].t2i[2]: " in err


@pytest.mark.slow
@pytest.mark.parametrize("content", ["null", "[]", '{"main": null}', '{"main": {"words": 1}}', "[" * 100_000, "\x00"])
def test_a_damaged_list_of_last_commands_is_as_good_as_none(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (project / "runs" / "commands.json").write_text(content)
    assert call("resume") == 2
    assert "no campaign was begun" in capsys.readouterr().err
    assert call("status") == 0
    assert call("run", "--here", "--methods", "chance") == 0
    assert call("resume") == 0


def write_last_command(project: Path, *words: str) -> None:
    """Let `harness resume` find a command of the campaign main."""
    entry = {"words": words, "folder": ".."}
    (project / "runs" / "commands.json").write_text(json.dumps({"main": entry}))


@pytest.mark.parametrize(
    ("more", "whole"),
    [
        (
            ("-s", "settings.vsepp.dim=77"),
            "-s: resume repeats a command as it was given; give the whole command: {} -s ",
        ),
        (
            ("--plugin", "cards/buggy.toml"),
            "--plugin: resume repeats a command as it was given; give the whole command: {}",
        ),
        (("-c", "other.toml"), "give the whole command: {} -c other.toml"),
    ],
)
def test_resume_refuses_what_it_would_not_heed(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], whole: str
) -> None:
    (project / "other.toml").write_text((project / "harness.toml").read_text())
    write_last_command(project, "run", "-n", "--methods", "chance")
    assert call("resume", *more) == 2
    assert whole.format("harness run -n --methods chance") in capsys.readouterr().err


def test_resume_takes_what_its_command_was_given_and_passes_on_how_to_print(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("-c", "harness.toml", "-s", "training.epochs=1", "--plugin", "cards/buggy.toml")
    write_last_command(project, "run", "-n", "--methods", "chance", *given)
    assert call("resume", *given) == 0
    assert "configuration: harness.toml" in capsys.readouterr().out
    assert call("resume", "-q") == 0
    assert "configuration: " not in capsys.readouterr().out
    assert call("resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["campaign"] == "main"


def test_in_a_pipe_no_line_ends_with_blanks(project: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("describe", "vsepp") == 0 and call("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20 and lines == [line.rstrip() for line in lines]
