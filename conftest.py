"""In CI a skipped test fails: a missing tool there is a mistake, and must not look like a pass."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register the rule when the environment says that this is CI."""
    if os.environ.get("CI"):
        config.pluginmanager.register(NoSkips(), "no-skips")


class NoSkips:
    """Turns every skip, of a test or of a whole module, into a failure with the skip's reason."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A test that is skipped, while it is set up or while it runs."""
        report = yield
        if report.skipped and not hasattr(report, "wasxfail"):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI: {_reason(report.longrepr)}"
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """A module that is skipped as a whole."""
        report = yield
        if report.skipped:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI: {_reason(report.longrepr)}"
        return report


def _reason(where: object) -> str:
    return str(where[2]) if isinstance(where, tuple) else str(where)
