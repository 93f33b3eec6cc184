"""The command that runs the trials of a row again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from harness.config.cards import MethodCard
from harness.config.project import built_in
from harness.config.registry import choices, settings_for, training_for
from harness.tracking.runs import Run
from harness.trial.ensembles import is_composite
from harness.trial.external import command as score_command
from harness.trial.external import is_external
from harness.trial.results import Current


def command(
    runs: Sequence[Run], methods: Mapping[str, MethodCard], members: Sequence[Run | None], current: Current
) -> str:
    """The command that runs these seeds again, in the project and in any other one that says nothing else.

    Of an external recipe one per line, as each seed has its file.
    """
    spec, seeds = runs[0].spec, [run.spec.seed for run in runs]
    if is_external(spec.method):
        return "\n".join(score_command(run.spec, run.environment) for run in runs)
    words = ["harness", "run", "--methods", spec.method, "--datasets", spec.dataset]
    words += ["--test-on", spec.tested_on] if spec.tested_on else []
    words += ["--protocol", spec.test_protocol, "--seeds", ",".join(map(str, seeds))]
    words += [] if spec.limit is None else ["--limit", str(spec.limit)]
    if spec.trained_as:
        return shlex.join([*words, "--recipe", spec.trained_as])
    if not is_composite(spec):
        return shlex.join([*words, *overrides(runs[0], methods, current)])
    own = [word for run in members if run for word in overrides(run, methods, current)]
    pairs = dict.fromkeys(zip(own[::2], own[1::2], strict=True))
    text = shlex.join([*words, *(word for pair in pairs for word in pair)])
    return text if members and all(members) else f"{text}  # with the settings of its members"


def overrides(run: Run, methods: Mapping[str, MethodCard], current: Current) -> list[str]:
    """What of a run differs from the defaults, or from what the project has, as words of a command."""
    spec, card, plain = run.spec, methods.get(run.spec.method), built_in().for_dataset(run.spec.dataset)
    defaults = choices(settings_for(card, plain) if card else {}, training_for(card, plain) if card else plain.training)
    configured, words = current.configured(spec.method, spec.dataset), []
    for name, text in sorted(run.choices.items()):
        if defaults.get(name) != text or configured.get(name, text) != text:
            words += ["-s", f"{name.replace('settings.', f'settings.{spec.method}.', 1)}={text}"]
    return words
