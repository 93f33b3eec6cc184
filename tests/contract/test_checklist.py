"""The checklist of the contract: a method that breaks one rule is seen by exactly that check."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from tiny_project import Call

from harness.config.cards import MethodCard
from harness.config.project import Config
from harness.config.registry import Registry, discover
from harness.contract.checklist import Outcome, in_turn
from harness.contract.rule import PAGE
from harness.contract.rules import rules_of
from harness.contract.samples import one_thread

ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]
CARD = """
name = "rigged"
title = "Rigged"
class = "rigged:Rigged"
summary = "The mean region against the mean word."
scoring = "embedding"
fidelity = "baseline"
choices = ["For tests."]
[defaults]
dim = 16
margin = 0.2
[tunable.margin]
type = "float"
low = 0.1
high = 0.4
"""
METHOD = """
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import normalize, relu

from harness.method import Encoded, Method


NAN = float("nan")


def places(mask):
    return torch.arange(len(mask))[:, None, None]


def diagonal(scores):
    return torch.eye(len(scores), dtype=torch.bool)


def fixed(method):
    for parameter in method.parameters():
        nn.init.uniform_(parameter, -0.3, 0.3, generator=torch.Generator().manual_seed(1))


class Rigged(Method):
    @dataclass(frozen=True)
    class Settings:
        dim: int
        margin: float

    def __init__(self, settings, inputs):
        super().__init__(settings, inputs)
        self.regions = nn.Linear(inputs.feature_width, settings.dim)
        self.words = nn.Embedding(inputs.vocabulary_size, settings.dim)
        {init}

    def pooled(self, vectors, mask):
        weight = mask.unsqueeze(2).float()
        {pool}
        return Encoded(normalize(vectors, dim=1).unsqueeze(1), torch.ones(len(mask), 1, dtype=torch.bool))

    def encode_images(self, regions, mask):
        {images}
        return self.pooled(self.regions(regions), mask)

    def encode_captions(self, tokens, mask):
        captions = self.pooled(self.words(tokens), mask)
        {captions}
        return captions

    def score(self, images, captions):
        scores = (images.vectors[:, 0] @ captions.vectors[:, 0].T){float}
        {score}
        return scores

    def regions_of_words(self, images, captions):
        {attention}
        return None

    def loss(self, batch):
        scores = self.score(
            self.encode_images(batch.regions, batch.region_mask), self.encode_captions(batch.tokens, batch.token_mask)
        )
        {loss}
        true, own = batch.positives, scores.diagonal()
        cost = relu(scores - own[:, None] + self.settings.margin) + relu(scores - own[None] + self.settings.margin)
        return cost.masked_fill(true, 0.0).sum()
"""
SOUND = {
    **dict.fromkeys(("init", "images", "captions", "score", "attention", "loss"), "pass"),
    "float": ".float()",
    "pool": "vectors = (vectors * weight).sum(1) / weight.sum(1)",
}


class Fault(NamedTuple):
    rule: str
    message: str
    code: Mapping[str, str] = MappingProxyType({})
    card: tuple[str, str] = ("", "")


FAULTS = (
    Fault("card", "summary is not one line", card=("mean word.", "mean word")),
    Fault(
        "settings", "fields of Settings: dim, margin; keys", card=("dim = 16\nmargin = 0.2", "margin = 0.2\ndim = 16")
    ),
    Fault("ranges", "[defaults] margin = 0.2 is out of its range", card=("low = 0.1", "low = 0.3")),
    Fault("builds", "ValueError: no (rigged.py, line ", {"init": "raise ValueError('no')"}),
    Fault("builds", "SystemExit: 5 (rigged.py, line ", {"init": "raise SystemExit(5)"}),
    Fault("shapes", "score: (11, 9) of torch.float32, not (9, 11)", {"score": "scores = scores.T"}),
    Fault("shapes", "7 vectors per set", {"captions": "return Encoded(self.words(tokens), mask)"}),
    Fault("finite", "99 of 99 scores are NaN", {"score": "scores = scores / 0 * 0"}),
    Fault("padding", "scores with three more places of padding", {"pool": "vectors = vectors.mean(1)"}),
    Fault("tiles", "scores in tiles of 1 x 1", {"score": "scores = scores - scores.mean(1, keepdim=True) / 2"}),
    Fault("order", "encoded in another order", {"captions": "captions.vectors.data *= 1 + places(mask) / 9"}),
    Fault("pairs", "the score of image 0 and caption 0", {"images": "regions = regions - regions[:, :1].mean(0) / 2"}),
    Fault(
        "attention",
        "a weight is below zero",
        {"attention": "return torch.full((len(images.mask), len(captions.mask), 1, 1), -1.0)"},
    ),
    Fault("seeds", "two seeds gave the same weights", {"init": "fixed(self)"}),
    Fault(
        "saving", "scores otherwise", {"init": "self.shift = torch.rand(())", "score": "scores = scores + self.shift"}
    ),
    Fault(
        "choices", "margin = 0.4: a score", {"score": "scores = scores * (1 if self.settings.margin < 0.4 else NAN)"}
    ),
    Fault("gradients", "unused.weight has no gradient", {"init": "self.unused = nn.Linear(2, 2)"}),
    Fault(
        "negatives", "lowers the score of a true match", {"loss": "batch = batch._replace(positives=diagonal(scores))"}
    ),
    Fault("bfloat16", "the loss is torch.bfloat16", {"float": ""}),
    Fault("reads", "item at rigged.py:", {"loss": "scores.sum().item()"}),
    Fault("learning", "where a random order has", {"score": "scores = scores if self.training else -scores"}),
)


SOUND_METHOD = Fault("", "")


def rigged(folder: Path, fault: Fault = SOUND_METHOD) -> MethodCard:
    """The card of a method that breaks what a fault says."""
    code = METHOD
    for slot, line in {**SOUND, **fault.code}.items():
        code = code.replace(f"{{{slot}}}", line)
    (folder / "rigged.py").write_text(code)
    (folder / "rigged.toml").write_text(CARD.replace(*fault.card) if fault.rule else CARD)
    return discover(Config(), [folder / "rigged.toml"]).methods["rigged"]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover(Config())


@pytest.fixture(scope="module")
def check(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Callable[[MethodCard], dict[str, Outcome]]:
    """The outcome of every rule by its name; the pictures are drawn once."""
    rules = rules_of(registry, tmp_path_factory.mktemp("pictures"))

    def outcomes(card: MethodCard) -> dict[str, Outcome]:
        with one_thread():
            return {outcome.rule.name: outcome for outcome in in_turn(card, rules)}

    return outcomes


Check = Callable[[MethodCard], dict[str, Outcome]]


@pytest.mark.slow
def test_a_sound_method_passes_every_rule_that_applies(check: Check, tmp_path: Path) -> None:
    outcomes = check(rigged(tmp_path))
    assert not [outcome for outcome in outcomes.values() if outcome.state == "broken"]
    skipped = {name for name, outcome in outcomes.items() if outcome.state == "skipped"}
    assert skipped == {"recipes", "reported", "oracle", "attention"} and len(outcomes) > 20


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.rule}-{fault.message[:20]}" for fault in FAULTS])
def test_a_method_that_breaks_one_rule_is_seen_by_exactly_that_check(
    check: Check, tmp_path: Path, fault: Fault
) -> None:
    outcomes = check(rigged(tmp_path, fault))
    assert [name for name, outcome in outcomes.items() if outcome.state == "broken"] == [fault.rule]
    assert fault.message in outcomes[fault.rule].message
    waiting = [outcome for outcome in outcomes.values() if outcome.message.startswith("mend ")]
    assert all(fault.rule in outcome.rule.needs or "mend builds" in outcome.message for outcome in waiting)


def test_every_rule_that_a_method_can_break_alone_has_a_rigged_one(registry: Registry) -> None:
    rules = {rule.name for rule in rules_of(registry, Path())}
    assert rules - {fault.rule for fault in FAULTS} == {"recipes", "reported", "oracle"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "table", "message"),
    [
        ("recipes", '[[recipe]]\ndataset = "scenes"\nsource = "x"', 'fidelity is "baseline"'),
        ("recipes", '[[recipe]]\ndataset = "scene"\nsource = "x"', "did you mean scenes?"),
        (
            "reported",
            '[[reported]]\ndataset = "f30k"\nprotocol = "x"\ni2t = [1, 2, 3]\nt2i = [1, 2, 3]\nrsum = 13\nsource = ""',
            "add up to 12.0, not 13",
        ),
    ],
)
def test_a_table_of_a_card_that_does_not_fit_is_seen(
    check: Check, tmp_path: Path, rule: str, table: str, message: str
) -> None:
    outcomes = check(rigged(tmp_path, Fault(rule, message, card=("[tunable.margin]", f"{table}\n[tunable.margin]"))))
    assert [name for name, outcome in outcomes.items() if outcome.state == "broken"] == [rule]
    assert message in outcomes[rule].message


ORACLE = """
from torch.nn.functional import cosine_similarity


def score(method, regions, tokens):
    image, caption = method.regions(regions).mean(0), method.words(tokens).mean(0)
    return cosine_similarity(image, caption, dim=0)
"""


@pytest.mark.slow
def test_an_oracle_beside_the_card_is_compared(check: Check, tmp_path: Path) -> None:
    card, file = rigged(tmp_path), tmp_path / "rigged_oracle.py"
    results = []
    for text in (
        ORACLE,
        ORACLE.replace(".mean(0), ", ".sum(0), ").replace("words(tokens).mean", "words(tokens[1:]).mean"),
        "x = 1",
        "import nowhere",
    ):
        file.write_text(text)
        outcomes = check(card)
        assert not {name for name, outcome in outcomes.items() if outcome.state == "broken"} - {"oracle"}
        results.append((outcomes["oracle"].state, outcomes["oracle"].message))
    assert results[0] == ("passed", "") and [state for state, _ in results[1:]] == ["broken"] * 3
    assert "scores beside rigged_oracle.py: " in results[1][1] and "numbers differ" in results[1][1]
    assert "no function score(method, regions, tokens)" in results[2][1] and "does not import" in results[3][1]


def test_every_rule_has_a_heading_on_the_page_of_the_contract(registry: Registry) -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / PAGE).read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [rule.name for rule in rules_of(registry, Path())]


@pytest.mark.slow
def test_the_command_lists_the_rules_names_what_is_broken_and_ends_with_3(
    project: Path, call: Call, capsys: Captured
) -> None:
    rigged(project, FAULTS[0])
    assert call("validate", "rigged", "--plugin", "rigged.toml", "--json") == 3
    method = json.loads(capsys.readouterr().out)["methods"][0]
    assert method["broken"] == ["card"] and method["method"] == "rigged"
    assert method["rules"][0]["page"] == "docs/reference/contract.md#card" and method["rules"][0]["state"] == "broken"
    assert not [rule for rule in method["rules"][1:] if rule["state"] == "broken"]


def test_what_cannot_be_checked_ends_with_2(project: Path, call: Call, capsys: Captured) -> None:
    assert call("validate", "vsep") == 2 and "did you mean vsepp" in capsys.readouterr().err
    rigged(project)
    (project / "rigged.py").write_text("import nowhere")
    assert call("validate", "rigged", "--plugin", "rigged.toml") == 2
    assert "does not import" in capsys.readouterr().err
    (project / "rigged.py").write_text("import sys; sys.exit(0)")
    assert call("validate", "rigged", "--plugin", "rigged.toml") == 2
    assert "does not import: it calls exit (0)" in capsys.readouterr().err


def test_a_name_may_be_a_dataset(project: Path, call: Call, capsys: Captured) -> None:
    assert call("validate", "tiny") == call("validate", "--dataset", "tiny") == call("validate") == 0
    first, second, third = (part for part in capsys.readouterr().out.split("tiny  ")[1:])
    assert first == second == third and "fingerprint" in first
