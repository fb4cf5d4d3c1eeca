"""Section a: the tests marked `gpu`, or some of the same tests on the CPU."""

import os
from pathlib import Path

import pytest

from benchmarks.gpu.section import Section

ROOT = Path(__file__).parents[2]
ON_GPU = ("tests/gpu", "tests/train/engine/overlap", "-m", "gpu")
# What shows that the script runs; `make test` runs all of them by themselves.
ON_CPU = ("tests/gpu/test_numbers.py", "-k", "cpu and forward")
LINES_OF_FAILURE = 4
TIMEOUT_S = 60


class Findings:
    """A plugin of pytest that records each test as it ends, so that a section that is stopped keeps what it has."""

    def __init__(self, section: Section) -> None:
        self.record, self.passed, self.failed = section.record, 0, 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed += 1
            lines = report.longreprtext.splitlines()
            shown = [line for line in lines if line.startswith("E ")] or lines
            self.record.fail(report.nodeid.rpartition("/")[2], "\n".join(shown[:LINES_OF_FAILURE]))
        elif report.when == "call" and report.passed:
            self.passed += 1
        self.record.update("tests passed", self.passed, "tests", f"{self.failed} failed")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.record.fail(report.nodeid, "\n".join(report.longreprtext.splitlines()[-LINES_OF_FAILURE:]))


def main() -> None:
    section = Section.from_arguments("tests")
    os.chdir(ROOT)
    options = ["-q", "-p", "no:cacheprovider", "-n", "0", f"--timeout={TIMEOUT_S}"]
    pytest.main([*(ON_GPU if section.is_gpu else ON_CPU), *options], plugins=[Findings(section)])


if __name__ == "__main__":
    main()
