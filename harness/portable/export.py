"""A trial's best weights written as a folder that needs no project."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import harness
from harness.config.cards import MethodCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sources import PACKAGE, source_file, source_files
from harness.data.dataset import Dataset
from harness.data.text_encoder import encoder_files
from harness.data.tokens import Vocabulary
from harness.errors import UsageError
from harness.explain.weights import Trained, TrialChoice, best_weights, candidate, finished, trained
from harness.files import sha256
from harness.layouts.opening import open_dataset
from harness.portable.model_card import model_card
from harness.portable.weights_folder import (
    FACTS,
    README,
    TENSORS,
    VOCABULARY,
    TextFacts,
    WeightsFacts,
    WeightsFolder,
    card_name,
    read_facts,
    read_weights_folder,
)
from harness.tracking.naming import trial_named
from harness.tracking.runs import SHORTEST
from harness.trial.ensembles import is_composite
from harness.trial.external import is_external
from harness.trial.results import TrialSpec

if TYPE_CHECKING:
    from harness.method import Method


def export_weights(config: Config, registry: Registry, name: str, folder: Path, force: bool = False) -> WeightsFolder:
    """Write the best weights of the trial that METHOD/DATASET/sSEED or the start of a key means.

    UsageError where it is not one trial, has no weights that can be used now, or the folder holds something else; with
    `force` earlier weights there are replaced.
    """
    check_free(folder, force)
    one = trial_with_weights(config, registry, name)
    spec, card = one.spec, registry.method(one.spec.method)
    dataset = open_dataset(registry.dataset(spec.dataset), config.data, config.cache, spec.limit)
    dataset = dataset.for_settings(spec.settings)
    contents = {
        TENSORS: tensors_of(best_weights(one, registry, dataset)),
        card_name(card.name): card.path.read_bytes(),
        source_file(card).name: source_file(card).read_bytes(),
    }
    if isinstance(dataset.vocabulary, Vocabulary):
        contents[VOCABULARY] = dataset.vocabulary.json().encode()
    write_folder(folder, contents, facts_of(one, card, dataset))
    return read_weights_folder(folder)


def trial_with_weights(config: Config, registry: Registry, name: str) -> Trained:
    """The finished trial that a name means; UsageError as of `export_weights`."""
    one = trial_named(name, [*finished(config.trials)], candidate)
    if one is None:
        raise UsageError(
            f"no finished trial here is {name!r}; give METHOD/DATASET/sSEED or the start of its key ({SHORTEST} "
            "characters or more), as `harness status` shows"
        )
    if reason := without_weights(one.spec):
        raise UsageError(f"{one.spec.label}: {reason}")
    return trained(
        config, registry, TrialChoice(one.spec.method, one.spec.dataset, one.spec.protocol, key=one.spec.key)
    )


def without_weights(spec: TrialSpec) -> str:
    """Why a trial has no weights of its own; empty where it has."""
    if is_external(spec.method):
        return "it was ranked from scores, and its weights are elsewhere"
    if is_composite(spec):
        return "it is made of other trials and has no weights of its own; export its members"
    return "" if spec.training.epochs else "it trains nothing, so that there are no weights"


def facts_of(one: Trained, card: MethodCard, dataset: Dataset) -> WeightsFacts:
    """All but the hashes of the files."""
    result, own = one.result, source_file(card)
    others = tuple(file.name for file in source_files(card) if file != own and not file.is_relative_to(PACKAGE))
    return WeightsFacts(
        key=one.spec.key,
        spec=one.spec,
        method_title=card.title,
        dataset_title=dataset.card.title,
        licence=dataset.card.licence,
        best_epoch=result.best_epoch,
        measures=result.measures,
        val=result.val,
        gallery=result.gallery,
        text=text_facts(dataset),
        features=dataset.features,
        source_file=own.name,
        further_sources=others,
        harness=harness.__version__,
        commit=result.environment.get("commit", ""),
        files={},
    )


def text_facts(dataset: Dataset) -> TextFacts:
    text, encoder, vectors = dataset.card.text, dataset.encoder, dataset.vectors
    return TextFacts(
        size=len(dataset.vocabulary),
        encoder=text.encoder,
        encoder_files={} if encoder is None else {name: sha256(encoder / name) for name in encoder_files(encoder)},
        vectors=text.vectors,
        vectors_width=0 if vectors is None else vectors.numbers.shape[1],
    )


def tensors_of(method: Method) -> bytes:
    """The state of a method as safetensors; each tensor has memory of its own there."""
    from safetensors.torch import save

    return save({name: value.detach().contiguous().clone() for name, value in method.state_dict().items()})


def write_folder(folder: Path, contents: Mapping[str, bytes], facts: WeightsFacts) -> None:
    """Write all files beside the folder, then put them in its place; UsageError where that cannot be written."""
    files = {**contents, README: model_card(facts).encode()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    files[FACTS] = facts.model_copy(update={"files": hashes}).model_dump_json(indent=2).encode()
    try:
        with placed(folder) as part:
            for name, content in files.items():
                with (part / name).open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error}; name another with --weights") from error


@contextmanager
def placed(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of another one at the end, where all went well."""
    target = Path(os.path.abspath(folder))  # noqa: PTH100  a link stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    part, old = (target.with_name(f".{target.name}.{secrets.token_hex(4)}.{end}") for end in ("part", "old"))
    part.mkdir()
    try:
        yield part
        if target.exists():
            target.rename(old)
        part.rename(target)
    finally:
        if old.exists() and not target.exists():  # cut off in between, by Ctrl-C too
            old.rename(target)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_free(folder: Path, force: bool) -> None:
    """UsageError where a folder holds anything, with `force` anything but weights that an export wrote."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"--weights {folder}: no folder; name a new one")
    names = {path.name for path in folder.iterdir()}
    if not names:
        return
    if not force:
        raise UsageError(
            f"--weights {folder}: not empty; name a new folder, or --force to replace earlier weights in it"
        )
    others = names - (files_of_export(folder) if FACTS in names else set())
    if others:
        raise UsageError(f"--weights {folder}: holds {min(others)!r}, which no export wrote; name another folder")


def files_of_export(folder: Path) -> set[str]:
    return {FACTS, *read_facts(folder / FACTS).files}
