"""Ranks agree on the step to save at: through files in the store's folder, the store of torch.distributed, or JAX's
coordination service.

A round has a number and a kind, `save` or `stop`; any rank may open it. Each rank then bids the step that it is in and
promises not to complete a later one before it knows all bids; the highest bid is the step. A thread looks for rounds and
bids, and does all that asks another machine; so a step waits only where it is at its own bid, for as long as the others
take to look: ranks that train in step with each other are never further apart than one step, and none is asked to stop
before where it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

LOOK = 0.1
"""Seconds between two looks."""

_ENVIRONMENT = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
"""How launchers tell: torchrun and Kubeflow, Open MPI, MPICH, Slurm."""


class RankLost(RuntimeError):
    """Another rank did not answer in time: it died, or has no part in what they share."""


def from_environment() -> tuple[int, int]:
    """Rank and number of ranks."""
    for rank, size in _ENVIRONMENT:
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def from_torch() -> tuple[int, int] | None:
    """Rank and number of ranks of torch's process group, where there is one."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def from_jax() -> tuple[int, int] | None:
    """Process and number of processes of JAX, where `jax.distributed` is initialised."""
    jax: Any = sys.modules.get("jax")
    if jax is None or not jax.distributed.is_initialized():
        return None
    return jax.process_index(), jax.process_count()


class Place(Protocol):
    """What all ranks see: names and small values. Whatever fails for the moment is an `OSError`."""

    def write(self, name: str, value: Any) -> None:
        """Seen whole or not at all."""

    def read(self, name: str) -> Any:
        """`None` where it is not there."""

    def read_all(self, names: Sequence[str]) -> list[Any] | None:
        """`None` where one is not there."""

    def remove(self, name: str) -> None: ...

    def begin(self, rounds: str) -> None:
        """Makes room for the rounds of a start, and drops those of starts before."""

    def __str__(self) -> str: ...


class Folder:
    """Files: works wherever the ranks share the folder of the checkpoints."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "ranks"

    def write(self, name: str, value: Any) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        temporary.write_text(json.dumps(value))
        temporary.replace(path)

    def read(self, name: str) -> Any:
        try:
            return json.loads((self._folder / name).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def read_all(self, names: Sequence[str]) -> list[Any] | None:
        found = [self.read(name) for name in names]
        return None if None in found else found

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def begin(self, rounds: str) -> None:
        (self._folder / rounds).mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("g*"):
            if old.name != rounds:
                with contextlib.suppress(OSError):
                    for file in old.iterdir():
                        file.unlink(missing_ok=True)
                    old.rmdir()

    def __str__(self) -> str:
        return f"{self._folder}: all ranks need the same folder, and the same world size"


class TorchStore:
    """The store by which torch's process group found together: no file, and no file system that is slow to tell."""

    def __init__(self, run: str, deadline: float) -> None:
        store: Any = sys.modules["torch.distributed"].distributed_c10d._get_default_store()
        # A connection of its own: one that waits for something, as the making of a group does, keeps others waiting.
        self._store = store
        if hasattr(store, "clone"):
            self._store = store.clone()
            self._store.set_timeout(timedelta(seconds=deadline))
        self._prefix = f"bedplate/{run}/"

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._store, method)(*arguments)
        except RuntimeError as error:
            # What torch tells of a connection, and of a store whose rank is gone.
            raise OSError(str(error)) from error

    def write(self, name: str, value: Any) -> None:
        self._ask("set", self._prefix + name, json.dumps(value))

    def read(self, name: str) -> Any:
        found = self.read_all([name])
        return found[0] if found else None

    def read_all(self, names: Sequence[str]) -> list[Any] | None:
        keys = [self._prefix + name for name in names]
        # To ask for one that is not there would wait for it.
        if not self._ask("check", keys):
            return None
        return [json.loads(value) for value in self._ask("multi_get", keys)]

    def remove(self, name: str) -> None:
        self._ask("delete_key", self._prefix + name)

    def begin(self, rounds: str) -> None:
        pass

    def __str__(self) -> str:
        return "torch.distributed's store: all ranks need a guard of the same run"


class JaxStore:
    """The coordination service of `jax.distributed.initialize()`, as Orbax uses it (`jax._src.distributed`)."""

    def __init__(self, run: str) -> None:
        self._client: Any = sys.modules["jax._src.distributed"].global_state.client
        self._prefix = f"bedplate/{run}/"

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self._client, method)(*arguments, **options)
        except RuntimeError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise OSError(str(error)) from error

    def write(self, name: str, value: Any) -> None:
        self._ask("key_value_set", self._prefix + name, json.dumps(value), allow_overwrite=True)

    def read(self, name: str) -> Any:
        found = self._ask("key_value_try_get", self._prefix + name)
        return None if found is None else json.loads(found)

    def read_all(self, names: Sequence[str]) -> list[Any] | None:
        found = [self.read(name) for name in names]
        return None if None in found else found

    def remove(self, name: str) -> None:
        self._ask("key_value_delete", self._prefix + name)

    def begin(self, rounds: str) -> None:
        pass

    def __str__(self) -> str:
        return "JAX's coordination service: all processes need a guard of the same run"


class Ranks:
    """This rank among the others of one start of the job."""

    def __init__(self, place: Place, rank: int, size: int, deadline: float) -> None:
        self.rank, self.size, self.deadline = rank, size, deadline
        self._place = place
        self._rounds = ""
        self._lock = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._last = -1
        # The round that goes on: its number, its kind, our bid and whether it is told, the step that was agreed on.
        self._number = 0
        self._kind: str | None = None
        self._bid = -1
        self._told = False
        self._agreed: int | None = None
        # What this rank asks for, by the round.
        self._wanted: set[tuple[int, str]] = set()
        self._hurry = False

    # How they find each other.

    def lead(self, generation: int) -> None:
        """Rank 0: tells the others which writer it is, and goes on telling, whenever they come."""
        # No start before has had rounds of this name, whatever is left of it.
        self._rounds = f"g{generation:08}-{secrets.token_hex(4)}"
        self._place.begin(self._rounds)
        self._welcome: list[Any] | None = None
        self._answer(generation)
        self._watch(generation)

    def _answer(self, generation: int) -> None:
        hellos = self._place.read_all([f"hello-{rank}" for rank in range(1, self.size)])
        if hellos is not None and hellos != self._welcome:
            self._place.write("welcome", {"generation": generation, "rounds": self._rounds, "hellos": hellos})
            self._welcome = hellos

    def follow(self) -> int:
        """Another rank: gives rank 0's generation, when that has seen this very process."""
        nonce = secrets.token_hex(8)
        self._place.write(f"hello-{self.rank}", nonce)
        until = time.monotonic() + max(self.deadline, 60)
        while time.monotonic() < until:
            welcome = self._place.read("welcome")
            if welcome is not None and nonce in welcome["hellos"]:
                self._rounds = welcome["rounds"]
                self._watch(None)
                return int(welcome["generation"])
            time.sleep(LOOK / 4)
        raise RankLost(f"rank 0 did not answer rank {self.rank} in {self._place}")

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
        with self._lock:
            number = self._number + (1 if self._kind else 0)
            if self._kind == "stop" or (self._kind == "save" and kind == "save") or (number, kind) in self._wanted:
                return
            self._wanted.add((number, kind))
            self._hurry = True
            self._lock.notify_all()

    def _look(self, generation: int | None) -> None:
        while True:
            try:
                if generation is not None:
                    self._answer(generation)
                self._look_once()
            except OSError:
                # What they share may be away for a moment; the deadline ends it.
                pass
            with self._lock:
                self._lock.wait_for(lambda: self._ended or self._hurry, LOOK)
                self._hurry = False
                if self._ended:
                    return

    def _name(self, number: int, what: str) -> str:
        return f"{self._rounds}/{number}.{what}"

    def _bids(self, number: int) -> list[str]:
        return [self._name(number, f"bid-{rank}") for rank in range(self.size)]

    def _is_opened(self, number: int, kind: str) -> bool:
        return self._place.read(self._name(number, kind)) is not None

    def _look_once(self) -> None:
        with self._lock:
            number, kind, told, agreed = self._number, self._kind, self._told, self._agreed
            wanted = {kind for of, kind in self._wanted if of == number}
        if kind is None:
            found = next((kind for kind in ("stop", "save") if kind in wanted or self._is_opened(number, kind)), None)
            if found is None:
                return
            with self._lock:
                # From here on no step after this one is completed without knowing, and what is opened is the next round.
                kind = self._kind = found
                self._bid, told = self._last + 1, False
                wanted = {kind for of, kind in self._wanted if of == number}
        if not told:
            # Before the bid: who finds all bids finds all that was opened, too.
            for opened in wanted:
                self._place.write(self._name(number, opened), self.rank)
            self._place.write(self._name(number, f"bid-{self.rank}"), self._bid)
            self._told = True
            # All that bid have done with the round before, and when they bid for that they had with the one before it.
            for what in [f"bid-{self.rank}", *(("stop", "save") if self.rank == 0 else ())] if number >= 2 else []:
                self._place.remove(self._name(number - 2, what))
        if agreed is None:
            bids = self._place.read_all(self._bids(number))
            if bids is not None:
                # Whoever saw `save` only, while another opened `stop`, finds that too when all have bid.
                stop = self._is_opened(number, "stop")
                with self._lock:
                    self._kind = "stop" if stop else kind
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
                raise RankLost(f"rank {self.rank} waited {self.deadline:.0f} s at step {step} for {self._silent()}")
            if self._agreed is None or step < self._agreed:
                return None
            kind = self._kind
            self._number += 1
            self._kind, self._agreed, self._bid, self._told = None, None, -1, False
            self._wanted = {(number, kind) for number, kind in self._wanted if number >= self._number}
            return kind

    def _silent(self) -> str:
        """Those that did not bid, in words."""
        try:
            lost = [rank for rank, bid in enumerate(self._bids(self._number)) if self._place.read(bid) is None]
        except OSError as error:
            return f"{self._place} ({error})"
        return f"rank {', '.join(map(str, lost))}"

    def done_with(self, step: int) -> None:
        """The step that a resume begins after."""
        with self._lock:
            self._last = step
