"""Ranks agree on the step to save at, through files in the store's folder: works wherever they share that.

A round has a number and a kind, `save` or `stop`; any rank may open it. Each rank then bids the step that it is in and
promises not to complete a later one before it knows all bids; the highest bid is the step. A thread looks for rounds and
bids, so a step waits only where it is at its own bid, for as long as the others take to look: ranks that train in step
with each other are never further apart than one step, and none is asked to stop before where it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any

LOOK = 0.1
"""Seconds between two looks at the folder."""

_ENVIRONMENT = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
"""How launchers tell: torchrun and Kubeflow, Open MPI, MPICH, Slurm."""


class RankLost(RuntimeError):
    """Another rank did not answer in time: it died, or has no part in the folder."""


def from_environment() -> tuple[int, int]:
    """Rank and number of ranks."""
    for rank, size in _ENVIRONMENT:
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def _write(path: Path, content: Any) -> None:
    """Seen whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


class Ranks:
    """This rank among the others of one start of the job."""

    def __init__(self, folder: Path, rank: int, size: int, deadline: float) -> None:
        self.rank, self.size, self.deadline = rank, size, deadline
        self._folder = folder / "ranks"
        self._rounds = self._folder
        self._lock = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._last = -1
        # The round that goes on: its number, its kind, our bid, the step that was agreed on.
        self._number = 0
        self._kind: str | None = None
        self._bid = -1
        self._agreed: int | None = None
        self._opened: set[tuple[int, str]] = set()

    # How they find each other.

    def lead(self, generation: int) -> None:
        """Rank 0: tells the others which writer it is, and goes on telling, whenever they come."""
        self._folder.mkdir(exist_ok=True)
        self._begin(generation)
        for old in self._folder.glob("g*"):
            if old != self._rounds:
                _remove(old)
        self._welcome: dict[str, str] = {}
        self._answer(generation)
        self._watch(generation)

    def _answer(self, generation: int) -> None:
        hellos = {str(rank): _read(self._folder / f"hello-{rank}") for rank in range(1, self.size)}
        found = {rank: hello for rank, hello in hellos.items() if hello is not None}
        if found != self._welcome:
            self._welcome = found
            _write(self._folder / "welcome", {"generation": generation, "hellos": found, "size": self.size})

    def follow(self) -> int:
        """Another rank: gives rank 0's generation, when that has seen this very process."""
        self._folder.mkdir(parents=True, exist_ok=True)
        nonce = secrets.token_hex(8)
        _write(self._folder / f"hello-{self.rank}", nonce)
        until = time.monotonic() + max(self.deadline, 60)
        while time.monotonic() < until:
            welcome = _read(self._folder / "welcome")
            if welcome is not None and welcome["hellos"].get(str(self.rank)) == nonce:
                generation = int(welcome["generation"])
                self._begin(generation)
                self._watch(None)
                return generation
            time.sleep(LOOK / 4)
        raise RankLost(
            f"rank 0 did not answer rank {self.rank} in {self._folder}: all ranks need the same folder, and the same "
            "world size"
        )

    def _begin(self, generation: int) -> None:
        self._rounds = self._folder / f"g{generation:08}"
        self._rounds.mkdir(exist_ok=True)

    def _watch(self, generation: int | None) -> None:
        self._thread = threading.Thread(target=self._look, args=(generation,), name="bedplate-ranks", daemon=True)
        self._thread.start()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            self._lock.notify_all()

    # How they agree.

    def open(self, kind: str) -> None:
        """Asks all ranks to save, or to save and stop. A stop that comes while a save is agreed on is the next round."""
        # With the lock: who finds all bids finds what was opened before the last of them too.
        with self._lock:
            number = self._number + (1 if self._kind else 0)
            if self._kind == "stop" or (self._kind == "save" and kind == "save") or (number, kind) in self._opened:
                return
            (self._rounds / f"{number}.{kind}").touch()
            self._opened.add((number, kind))

    def _look(self, generation: int | None) -> None:
        while True:
            try:
                if generation is not None:
                    self._answer(generation)
                self._look_once()
            except OSError:
                # A shared folder may be away for a moment; the deadline ends it.
                pass
            with self._lock:
                if self._lock.wait_for(lambda: self._ended, LOOK):
                    return

    def _look_once(self) -> None:
        with self._lock:
            number, kind = self._number, self._kind
        if kind is None:
            found = next((kind for kind in ("stop", "save") if (self._rounds / f"{number}.{kind}").exists()), None)
            if found is None:
                return
            with self._lock:
                # From here on no step after this one is completed without knowing.
                self._kind, self._bid = found, self._last + 1
            _write(self._rounds / f"{number}.bid-{self.rank}", self._bid)
        if self._agreed is None:
            bids = [_read(self._rounds / f"{number}.bid-{rank}") for rank in range(self.size)]
            if all(bid is not None for bid in bids):
                # Whoever saw `save` only, while another opened `stop`, finds that too when all have bid.
                stop = (self._rounds / f"{number}.stop").exists()
                with self._lock:
                    self._kind = "stop" if stop else self._kind
                    self._agreed = max(bids)
                    self._lock.notify_all()

    def at(self, step: int) -> str | None:
        """Called with each completed step: `save`, `stop`, or nothing. Waits where this step is the bid and the others'
        are not known. Raises `RankLost` at the deadline."""
        with self._lock:
            self._last = step
            if self._kind is None or step < self._bid:
                return None
            if not self._lock.wait_for(lambda: self._agreed is not None or self._ended, self.deadline):
                lost = [rank for rank in range(self.size) if not (self._rounds / f"{self._number}.bid-{rank}").exists()]
                raise RankLost(
                    f"rank {self.rank} waited {self.deadline:.0f} s at step {step} for rank {', '.join(map(str, lost))}"
                )
            if self._agreed is None or step < self._agreed:
                return None
            kind = self._kind
            self._number += 1
            self._kind, self._agreed, self._bid = None, None, -1
            return kind

    def done_with(self, step: int) -> None:
        """The step that a resume begins after."""
        with self._lock:
            self._last = step


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
        folder.rmdir()
