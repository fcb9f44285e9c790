"""Incidents are replayed in processes of their own: a test that sends a signal must be able to kill what it tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

TRAIN = Path(__file__).with_name("train.py")


PATIENCE = 300
"""Seconds after which a test says that something never comes. A machine that reads torch, JAX and three frameworks for the
first time, from a cold disk and with two processors, takes more than one minute for that."""


class Job:
    """A training process."""

    def __init__(
        self, zygote: subprocess.Popen, folder: Path, place: str, *arguments: str, script: Path, **environment: str
    ) -> None:
        self.log = folder.with_name(f"{folder.name}-{time.monotonic_ns()}.log")
        self.exit = self.log.with_suffix(".exit")
        request = {
            "arguments": [str(script), place, *arguments],
            "environment": {**os.environ, "OMP_NUM_THREADS": "1", **environment},
            "log": str(self.log),
            "exit": str(self.exit),
        }
        zygote.stdin.write(json.dumps(request) + "\n")
        zygote.stdin.flush()
        self.pid = int(zygote.stdout.readline())

    def code(self) -> int | None:
        return int(self.exit.read_text()) if self.exit.exists() else None

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def until(self, line: str, seconds: float = PATIENCE) -> Job:
        """Waits for a line of its log."""
        end = time.monotonic() + seconds
        while line not in self.text():
            code = self.code()
            if time.monotonic() > end or (code is not None and line not in self.text()):
                raise AssertionError(f"`{line}` never came (exit {code}):\n{self.text()}")
            time.sleep(0.01)
        return self

    def send(self, number: int, group: bool = False) -> Job:
        (os.killpg if group else os.kill)(self.pid, number)
        return self

    def ended(self, seconds: float = PATIENCE) -> int:
        end = time.monotonic() + seconds
        while (code := self.code()) is None:
            if time.monotonic() > end:
                raise AssertionError(f"it did not end:\n{self.text()}")
            time.sleep(0.01)
        return code

    def said(self, begin: str) -> list[str]:
        return [line for line in self.text().splitlines() if line.startswith(begin)]

    def close(self) -> None:
        # And workers that it forked.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def zygote():
    command = [sys.executable, str(Path(__file__).with_name("zygote.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def job(tmp_path: Path, zygote: subprocess.Popen):
    """Starts jobs on `tmp_path/run`, or on the URL `place`, and leaves none behind."""
    jobs: list[Job] = []

    def start(
        *arguments: str,
        folder: Path | None = None,
        place: str | None = None,
        script: str | Path = TRAIN,
        **environment: str,
    ) -> Job:
        if isinstance(script, str):
            path = tmp_path / f"script-{len(jobs)}.py"
            path.write_text(textwrap.dedent(script))
            script = path
        folder = folder or tmp_path / "run"
        jobs.append(Job(zygote, folder, place or str(folder), *arguments, script=script, **environment))
        return jobs[-1]

    yield start
    for one in jobs:
        one.close()


class Bucket:
    """A bucket of a real S3 server on loopback."""

    url = "s3://checkpoints/run-7"

    def __init__(self) -> None:
        program = os.environ.get("BEDPLATE_S3")
        if program is None:
            pytest.fail("BEDPLATE_S3 is not set: run `cargo xtask python`, or set it to the program bedplate-s3")
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        lines = iter(self._process.stdout.readline, "\n")
        self.environment = dict(line.rstrip("\n").split("=", 1) for line in lines)

    def stop_after(self, requests: int) -> None:
        """The server is gone after so many more requests."""
        self._process.stdin.write(f"stop {requests}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "stops\n"

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)


@pytest.fixture
def bucket():
    one = Bucket()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever started pytest is no launcher of the tests' jobs."""
    for name in ("RANK", "WORLD_SIZE", "BEDPLATE_GRACE_SECONDS"):
        monkeypatch.delenv(name, raising=False)
