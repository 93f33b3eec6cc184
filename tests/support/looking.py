"""What `harness validate` says of a dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tiny_project import Call

Report = dict[str, Any]
Look = Callable[..., Report]


@pytest.fixture
def look(call: Call, capsys: pytest.CaptureFixture[str]) -> Look:
    """The report of one dataset, which must be sound unless another code is expected."""

    def look(name: str, code: int = 0) -> Report:
        assert call("validate", "--dataset", name, "--json") == code
        found = json.loads(capsys.readouterr().out)
        report: Report = found["datasets"][0]
        severities = [one["severity"] for one in report["findings"]]
        assert (found["errors"], found["warnings"]) == (severities.count("error"), severities.count("warning"))
        return report

    return look
