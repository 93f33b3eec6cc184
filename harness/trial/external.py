"""Models of which only a file of scores is known: their names, their specs, and their notes on a board."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from harness.addresses import without_secrets
from harness.config.sections import Scalar, Training
from harness.errors import UsageError
from harness.trial.results import EVALUATION_VERSION, TrialSpec

PREFIX = "external:"  # no method with a card can have a colon, so that names never collide and nothing can run them
LONGEST_NAME, LONGEST_NOTE = 80, 200
SHORT = 12  # digits of a hash that people read
FILE = "file"  # of the environment: the name of the file that was scored, which decides nothing
NOTE = "note"
SHA256 = "sha256_"  # of the environment, with the number of the file, from 1
FILES = "files"  # of the settings, of an ensemble: how many files were averaged
UNTRAINED = Training(epochs=0)
TRAINED_ON, WEIGHTS = "trained_on", "weights"  # of the settings, of exported weights: dataset; method and recipe


def is_external(method: str) -> bool:
    return method.startswith(PREFIX)


def method_of(name: str) -> str:
    """The method of a model's name, given with or without the prefix; UsageError where it is no name."""
    return PREFIX + one_line("--name", name.removeprefix(PREFIX), LONGEST_NAME)


def one_line(flag: str, text: str, longest: int) -> str:
    """Text without blanks around it; UsageError unless it is one printable line of at most so many characters."""
    line = text.strip()
    if not line or len(line) > longest or not line.isprintable():
        raise UsageError(f"{flag} {line!r}: give one line of 1 to {longest} printable characters, this has {len(line)}")
    return line


def spec_of(
    method: str,
    dataset: str,
    protocol: tuple[str, int],
    seed: int,
    note: str,
    fingerprint: str,
    source: str,
    files: int = 1,
    extra: Mapping[str, Scalar] = MappingProxyType({}),
    training: Training = UNTRAINED,
) -> TrialSpec:
    """The spec of a model from elsewhere; `training` is of no epochs, and says in which precision it was scored."""
    notes = {NOTE: one_line("--note", note, LONGEST_NOTE)} if note.strip() else {}
    return TrialSpec(
        method=method,
        dataset=dataset,
        protocol=protocol[0],
        seed=seed,
        settings=notes | ({FILES: files} if files > 1 else {}) | dict(extra),
        training=training,
        limit=None,
        data_fingerprint=fingerprint,
        protocol_version=protocol[1],
        source=source,
        evaluation_version=EVALUATION_VERSION,
    )


def weights_settings(trained: TrialSpec) -> dict[str, Scalar]:
    """What a row of exported weights says of the trial that they are of, alike for all its seeds."""
    part = f"only the first {trained.limit} images of each split" if trained.limit else ""
    on = ", ".join(filter(None, [trained.dataset, part, trained.noise]))
    return {TRAINED_ON: on, WEIGHTS: f"{trained.method} recipe {trained.recipe[:SHORT]}"}


def recipe_of(spec: TrialSpec) -> str:
    """The recipe that repetitions over seeds share; without the file of external scores, as each seed has its own."""
    return spec.model_copy(update={"source": ""}).recipe if is_external(spec.method) else spec.recipe


def file_name(file: Path) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in file.name)


def file_keys(number: int) -> list[str]:
    """The keys of an environment under which the names of so many files stand."""
    return [FILE, *(f"{FILE}_{place}" for place in range(2, number + 1))]


def file_names(files: Sequence[Path]) -> dict[str, str]:
    """The names of files as an environment has them."""
    return {key: file_name(file) for key, file in zip(file_keys(len(files)), files, strict=True)}


ENTRY = {  # what whoever hands in scores says of them: the environment's key, the flag, words for people
    "entry.by": ("--by", "handed in by"),
    "entry.trained_on": ("--trained-on", "trained on"),
    "entry.selected_on": ("--selected-on", "selected on"),
    "entry.how": ("--how", "how to make them again"),
    "entry.url": ("--url", "address"),
}
LONGEST_FACT = 500  # characters
URL = re.compile(r"https?://[^/\s]+(?:/\S*)?")


def entry_facts(given: Mapping[str, str]) -> dict[str, str]:
    """What is said of scores, by the environment's keys, addresses without their secrets; UsageError for a wrong one.

    given: by the keys of ENTRY; what is empty is not said.
    """
    facts = {name: one_line(ENTRY[name][0], text, LONGEST_FACT) for name, text in given.items() if text.strip()}
    url = facts.get("entry.url", "")
    if url and not URL.fullmatch(url):
        raise UsageError(f"--url {url!r}: give the http or https address of a page, a repository or a paper")
    return {name: without_secrets(text) for name, text in facts.items()}


def entry_lines(spec: TrialSpec, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """What is known of an external entry, in words; a dash for what nobody has said."""
    hashes = [environment.get(f"{SHA256}{number}", "") for number in range(1, files_of(spec) + 1)]
    whole = ", ".join(filter(None, hashes)) or (spec.source if files_of(spec) == 1 else "")
    said = [(words, environment.get(name) or "–") for name, (_, words) in ENTRY.items()]
    return [("sha256 of the scores", whole or "–"), *said]


def files_of(spec: TrialSpec) -> int:
    return int(spec.settings.get(FILES, 1))


def note_of(spec: TrialSpec) -> str:
    return str(spec.settings.get(NOTE, ""))


def remark(spec: TrialSpec) -> str:
    """The remark on a board; empty where the trial is of a method with a card."""
    if not is_external(spec.method):
        return ""
    note, files = note_of(spec), files_of(spec)
    if TRAINED_ON in spec.settings:
        name, on = spec.settings[WEIGHTS], spec.settings[TRAINED_ON]
        return f"external: weights of {name}, trained and selected on {on}" + (f", {note}" if note else "")
    what = "scores of a file" if files == 1 else f"ensemble, mean of the scores of {files} files"
    return f"external: {what}" + (f", {note}" if note else "")


def command(spec: TrialSpec, environment: Mapping[str, str]) -> str:
    is_weights = TRAINED_ON in spec.settings
    names = [environment.get(key) or ("DIR" if is_weights else "FILE.npy") for key in file_keys(files_of(spec))]
    words = ["harness", "score", *["--weights"] * is_weights, *names, "--dataset", spec.dataset]
    words += ["--protocol", spec.protocol, "--name", spec.method.removeprefix(PREFIX)]
    words += [] if is_weights else ["--seed", str(spec.seed)]
    note = note_of(spec)
    words += ["--note", note] if note else []
    words += [word for key, (flag, _) in ENTRY.items() if (text := environment.get(key)) for word in (flag, text)]
    return f"{shlex.join(words)}  # sha256 {spec.source[:SHORT]}"
