"""The guard of a training loop: resumes it, saves it when a save is due, and when the process is told to end."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import signal
import socket
import threading
import time
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from . import _core
from ._arrays import Leaf
from ._ranks import Folder, JaxStore, Place, RankLost, Ranks, TorchStore, from_environment, from_jax, from_torch
from ._report import Reporter, moment, pods
from ._signals import notice
from ._tree import GlobalRandom, Saved, StateError, Tensors, Tree, many_objects

log = logging.getLogger("bedplate")
T = TypeVar("T")

DEFAULT_GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL that Kubernetes gives a pod which asks for no other number."""

_NOBODY = "the default of Kubernetes; set BEDPLATE_GRACE_SECONDS to the pod's"

_UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


class Terminated(SystemExit):
    """Ends the process after a notice, with the guard's exit code: the job is not finished, and its state is saved as far
    as the log says."""


@dataclass(frozen=True)
class Estimate:
    """What a last save costs, and what there is for it."""

    state_bytes: int
    bandwidth: float
    """Bytes a second, durable, as measured in the folder."""
    seconds: float
    """What the save of the whole state takes."""
    grace: float
    """Seconds between the notice and the kill."""
    grace_source: str
    """Who says so."""

    @property
    def fits(self) -> bool:
        """Whether the save takes less than four fifths of the grace: the step that goes on needs some of it too."""
        return self.seconds <= 0.8 * self.grace

    def __str__(self) -> str:
        return (
            f"the state has {_size(self.state_bytes)}, the folder takes {_size(self.bandwidth)}/s: a last save needs "
            f"{_span(self.seconds)} of {_span(self.grace)} of grace ({self.grace_source})"
        )


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _every(every: str | int | None) -> tuple[float | None, int | None]:
    """Seconds, or steps."""
    if every is None:
        return None, None
    if type(every) is int and every > 0:
        return None, every
    if isinstance(every, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", every)):
        number, unit = float(match[1]), match[2]
        if number > 0 and unit in _UNITS:
            return number * _UNITS[unit], None
        if number >= 1 and unit in ("step", "steps") and number.is_integer():
            return None, int(number)
    raise ValueError(f"every={every!r}: give a time such as '10min', '30s', '2h', or a number of steps such as 500")


def _best(best: str | tuple[str, str] | None) -> tuple[str, bool, int] | None:
    if best is None:
        return None
    metric, how = (best, "min") if isinstance(best, str) else best
    if how not in ("min", "max"):
        raise ValueError(f"best={best!r}: give a metric, as ('loss', 'min') or ('accuracy', 'max')")
    return metric, how == "min", 1


def _grace(grace: float | None) -> tuple[float, str]:
    """Seconds, and who says so."""
    if grace is not None:
        return float(grace), "grace="
    said = os.environ.get("BEDPLATE_GRACE_SECONDS")
    if said:
        try:
            return float(said), "BEDPLATE_GRACE_SECONDS"
        except ValueError:
            raise ValueError(f"BEDPLATE_GRACE_SECONDS={said!r} is no number of seconds") from None
    return DEFAULT_GRACE, _NOBODY


def _place(dir: str | os.PathLike[str]) -> Path | str:
    """A folder, or the URL of a bucket and a prefix: not a path, which has no two slashes in it."""
    return dir.rstrip("/") if isinstance(dir, str) and re.match(r"[a-z0-9]+://", dir) else Path(dir)


def estimate(
    dir: str | os.PathLike[str], state: Mapping[str, Any], grace: float | None = None, seconds: float = 0.3
) -> Estimate:
    """Measures what a last save of this state into this folder would take; writes there for about `seconds`, and leaves
    nothing. Changes no checkpoint and takes over from no writer."""
    place = _place(dir)
    if isinstance(place, Path):
        place.mkdir(parents=True, exist_ok=True)
    return _estimate(Tree(state).nbytes, _core.measure(place, 1 << 30, seconds), _grace(grace))


def _estimate(nbytes: int, bandwidth: float, grace: tuple[float, str]) -> Estimate:
    return Estimate(nbytes, bandwidth, nbytes / bandwidth, *grace)


@dataclass
class _Save:
    step: int
    tree: bytes
    agreed: bytes
    snapshot: _core.Snapshot
    nbytes: int
    metrics: dict[str, float]
    final: bool


class _Rest(Generic[T]):
    """What is left of an iterable; as long as it is, where that is known, for progress bars."""

    def __init__(self, guard: Guard, iterable: Iterable[T], done: int) -> None:
        self._guard, self._iterable, self._done = guard, iterable, done

    def __len__(self) -> int:
        return max(0, len(self._iterable) - self._done)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[T]:
        if isinstance(self._iterable, (range, list, tuple)):
            rest: Iterable[T] = self._iterable[self._done :]
        else:
            rest = itertools.islice(self._iterable, self._done, None)
        return self._guard._follow(rest)


class Guard:
    """Guards a training loop.

    `dir`: a folder of this run alone, on storage that outlives the pod, or the URL of a prefix in a bucket, `s3://…`,
    `gs://…`, `az://…`; the credentials are those of the environment. `state`: what is saved, by name: objects with
    `state_dict` and `load_state_dict`, random number generators, arrays, numbers, texts, and lists and dicts of them.
    Values that training replaces (arrays of JAX, numbers) are given anew: `guard.state["params"] = params`. An array of
    another library than numpy, torch and JAX is read through DLPack where the host can read its memory, and comes back as
    one of numpy: `from_dlpack` of its library takes that.

    `replicated`: names of those parts of `state` that are the same on all ranks, as model and optimizer are behind
    `DistributedDataParallel`: each of their arrays is saved by one rank, and what is below 1 MiB by rank 0, which also DDP
    takes buffers from. Of a `DTensor` each rank saves its part in any case. Where all parts are replicated, another number
    of ranks may resume, and a `DTensor` is cut anew for its mesh; a part that is not is each rank's own, and wants as many
    ranks as have saved it.

    `every`: how often to save, `"10min"` or a number of steps. `keep`: so many of the last checkpoints; `keep_every`: for
    ever those whose step is a multiple; `best`: also the best by a metric, `("loss", "min")`. `grace`: seconds from the
    notice to the kill, by default `BEDPLATE_GRACE_SECONDS`, else what the pod has, where its service account may read that,
    else 30. `exit_code`: what the process ends with when it is
    told to end and is not finished; Kubeflow's v1 operators restart for 128 to 255 only. `rng`: also save the global
    generators of Python, and of numpy and torch where they are imported. `rank`, `world_size`: by default those of torch's
    process group or of JAX, else what the launcher says in the environment. `ranks`: how they agree on a step: `"torch"`,
    through the store of torch.distributed, `"jax"`, through the coordination service of jax.distributed, or `"folder"`,
    through files in `dir`; by default the first that is initialised.
    """

    def __init__(
        self,
        dir: str | os.PathLike[str],
        state: dict[str, Any],
        *,
        replicated: Collection[str] = (),
        every: str | int | None = "10min",
        run: str | None = None,
        keep: int = 3,
        keep_every: int | None = None,
        best: str | tuple[str, str] | None = None,
        grace: float | None = None,
        exit_code: int = 143,
        signals: Sequence[int] = (signal.SIGTERM,),
        rng: bool = True,
        strict: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
        ranks: str | None = None,
        rank_deadline: float = 15.0,
    ) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise TypeError("state= is a dict from names to what is saved: {'model': model, 'optimizer': optimizer}")
        if isinstance(replicated, str) or not set(replicated) <= state.keys():
            raise ValueError(
                f"replicated={replicated!r}: a list of names of state=, which has {', '.join(map(repr, state))}"
            )
        if not 1 <= exit_code <= 255:
            raise ValueError(f"exit_code={exit_code}: an unfinished job ends with 1 to 255, never with 0")
        if keep < 1:
            raise ValueError(f"keep={keep}: keep at least the last one")
        if (rank is None) != (world_size is None):
            raise ValueError("give both rank= and world_size=, or neither")
        if ranks not in (None, "torch", "jax", "folder"):
            raise ValueError(f"ranks={ranks!r}: ranks agree through 'torch', 'jax' or 'folder'")
        groups = {"torch": from_torch(), "jax": from_jax()}
        # By what the program has found together already. One process alone may be a part of a larger job all the same.
        through = ranks if ranks in groups else next((name for name, group in groups.items() if group and group[1] > 1), "")
        group = groups.get(through)
        if rank is not None and world_size is not None:
            self.rank, self.world_size = rank, world_size
        else:
            self.rank, self.world_size = group or from_environment()
        is_group = (self.rank, self.world_size) == group
        if ranks in groups and not is_group:
            first = {"torch": "init_process_group()", "jax": "jax.distributed.initialize()"}[ranks]
            have = f"this is rank {group[0]} of {group[1]} there" if group else f"call {first} first"
            raise ValueError(f"ranks={ranks!r} for rank {self.rank} of {self.world_size}: {have}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"there is no rank {self.rank} of {self.world_size}")
        self.dir = _place(dir)
        self.state = state
        self._replicated = frozenset(replicated)
        self._seconds, self._steps = _every(every)
        here = self.dir.resolve().name if isinstance(self.dir, Path) else self.dir.rpartition("/")[2]
        self._run = run or here or "run"
        self._keep, self._keep_every, self._best = keep, keep_every, _best(best)
        self._grace = _grace(grace)
        self._exit_code, self._signals, self._rng, self._strict = exit_code, tuple(signals), rng, strict
        self._ranks: Ranks | None = None
        if self.world_size > 1:
            place: Place
            if is_group and ranks != "folder":
                place = JaxStore(self._run) if through == "jax" else TorchStore(self._run, rank_deadline)
            elif isinstance(self.dir, Path):
                place = Folder(self.dir)
            else:
                raise ValueError(
                    f"{self.dir} is in a bucket, and {self.world_size} ranks have no folder there to agree on a step: "
                    "initialise torch.distributed or jax.distributed before the guard is made, or give a folder that all see"
                )
            self._ranks = Ranks(place, self.rank, self.world_size, rank_deadline)
        self._writer: _core.Writer | None = None
        self._nbytes = 0
        self._lost = False
        self._random: dict[str, Any] | None = None
        self._prepared = False
        self._preparing: threading.Thread | None = None
        self._memory: _core.Memory | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._pid = os.getpid()
        self._state = "new"
        self._step: int | None = None
        self._saved: int | None = None
        self._metrics: Mapping[str, Any] | None = None
        self._position = 0
        # None outside of the loop; in it, whether `step` was called for the item that it is at.
        self._stepped: bool | None = None
        self._finished: bool | None = None
        self._due = 0.0
        self._base: int | None = None
        self._said_busy = False
        self._estimate: Estimate | None = None
        self._reporter: Reporter | None = None
        self._started = time.time()

    # What a user sees of it.

    @property
    def last_step(self) -> int | None:
        """The step that was completed last, in this process or before it; `None` at the very beginning."""
        return self._step

    @property
    def terminating(self) -> bool:
        """Whether the process was told to end. The next `step` or `poll` saves and ends it."""
        return notice.at is not None or self._state == "stopping"

    @property
    def estimated(self) -> Estimate | None:
        """What was estimated at the start."""
        return self._estimate

    def stop(self) -> None:
        """Tells the guard that the process is to end, as a signal does. Any thread may call it."""
        notice.set("guard.stop()")

    def __enter__(self) -> Guard:
        return self.start()

    def start(self) -> Guard:
        """Takes over the folder and loads the newest whole checkpoint into the state. `with` does that."""
        if self._state != "new":
            raise RuntimeError("a guard is used once: make a new one")
        _speak()
        notice.listen(self._signals)
        try:
            if isinstance(self.dir, Path):
                self.dir.mkdir(parents=True, exist_ok=True)
            owner = f"{socket.gethostname()} process {os.getpid()}"
            if self._ranks is not None and self.rank > 0:
                self._writer = _core.Writer.join(self.dir, self._run, self._ranks.follow())
            else:
                self._writer = _core.Writer.take_over(self.dir, self._run, owner, int(time.time()))
                if self._ranks is not None:
                    self._ranks.lead(self._writer.generation)
            self._load(self._writer)
            if self.rank == 0:
                self._reporter = Reporter.of_this_pod()
            if self._reporter is not None and self._grace[1] == _NOBODY:
                of_pod = self._reporter.grace(patience=1.0)
                self._grace = self._grace if of_pod is None else (of_pod, "the pod's")
            self._announce()
        except BaseException:
            self._end()
            raise
        self._state = "running"
        self._due = time.monotonic() + (self._seconds or 0)
        return self

    def resume(self, iterable: Iterable[T]) -> Iterable[T]:
        """What is left of an iterable whose items are steps: those that were completed before the checkpoint are left out.
        A `range` or a list is cut; of another iterable, items are drawn and dropped."""
        if self._state == "new":
            self.start()
        if self._finished is not None:
            raise RuntimeError("guard.resume() follows one loop: put epochs and batches into one range of steps")
        self._finished = False
        return _Rest(self, iterable, self._position)

    def _restore_random(self) -> None:
        """What was done since the resume, such as making the iterator of a DataLoader, has drawn from the generators."""
        if self._random is not None:
            GlobalRandom().load_state_dict(self._random)
            self._random = None

    def _follow(self, rest: Iterable[T]) -> Iterator[T]:
        self._restore_random()
        for item in rest:
            self._stepped = False
            yield item
            if not self._stepped:
                self._position += 1
        self._stepped = None
        self._finished = True

    def step(self, step: int, metrics: Mapping[str, Any] | None = None) -> None:
        """A step is completed, and the state is as after it. Saves when that is due. After the notice to end it saves,
        waits until that is durable, and raises `Terminated`."""
        self._save_as(self._wanted(step, metrics))

    def _wanted(self, step: int, metrics: Mapping[str, Any] | None = None) -> str | None:
        """A step is completed; what is to be done: `save`, `stop`, or nothing."""
        if self._is_elsewhere():
            return None
        step = int(step)
        if self._step is not None and step <= self._step:
            raise ValueError(f"guard.step({step}) came after guard.step({self._step}): steps count up, also over epochs")
        if self._stepped:
            raise RuntimeError(
                "guard.step() was called twice for one item of guard.resume(): the loop that is resumed goes over steps; "
                "for epochs use guard.resume(range(epochs * batches)), or guard.last_step and a dataloader with a state"
            )
        self._raise_fenced()
        self._step, self._metrics = step, metrics
        if self._stepped is not None:
            self._stepped = True
            self._position += 1
        if self._base is None:
            self._base = step - 1
        self._prepare()
        if self._ranks is None:
            return "stop" if self.terminating else "save" if self._is_due(step) else None
        return self._agree(self._ranks, step)

    def _save_as(self, wanted: str | None) -> None:
        if wanted == "stop":
            self._last_save()
        elif wanted == "save":
            self._start_save(final=False)

    def poll(self) -> None:
        """For what takes long between two steps, such as an evaluation: ends the process after the notice as `step` does.
        Call it where the state is as after the last step. Of several ranks each goes on until their next step, since all
        have to stop at the same one."""
        if self._is_elsewhere() or not self.terminating or self._ranks is not None:
            return
        self._last_save()

    def save(self) -> None:
        """Saves the last step now, and returns when that is durable."""
        if self._is_elsewhere() or self._step is None:
            return
        # This very step may be on its way.
        self._wait(None)
        if self._saved == self._step:
            return
        self._start_save(final=True)
        self._wait(None)
        self._raise_failure()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(error)

    def close(self, error: BaseException | None = None) -> None:
        """Ends the guard. What `with` does: without an error the last step is saved where it is not."""
        if self._state != "running" or self._is_elsewhere():
            return
        try:
            if error is None or (self.terminating and _workers_were_ended(error)):
                # A loop that ended without `resume` may have been left early: better resumed once more than taken for done.
                if self.terminating and (error is not None or not self._finished):
                    self._last_save()
                self.save()
            else:
                self._wait(None)
        finally:
            self._end()

    # How it does that.

    def _is_elsewhere(self) -> bool:
        """A forked child trains nothing, whatever code of its parent it runs."""
        if os.getpid() != self._pid:
            return True
        if self._state != "running":
            raise RuntimeError("the guard is not running: use `with bedplate.Guard(…) as guard:`")
        return False

    def _end(self) -> None:
        if self._state == "ended":
            return
        self._state = "ended"
        if self._reporter is not None and notice.at is None:
            self._reporter.close(1.0)
        if self._ranks is not None:
            self._ranks.end()
        self._memory = None
        notice.forget()

    def _is_due(self, step: int) -> bool:
        if self._steps is not None and self._base is not None:
            due = step - self._base >= self._steps
        else:
            due = self._seconds is not None and time.monotonic() >= self._due
        if due and self._ranks is None and self._thread is not None and self._thread.is_alive():
            if not self._said_busy:
                self._said_busy = True
                log.warning("step %d: the save before is not written yet, so this one waits: save less often", step)
            return False
        return due

    def _agree(self, ranks: Ranks, step: int) -> str | None:
        if self.terminating:
            ranks.open("stop")
        elif self._steps is None and self.rank == 0 and self._is_due(step):
            ranks.open("save")
        try:
            agreed = ranks.at(step)
            # A number of steps is the same for all: nobody has to be asked.
            return agreed or ("save" if self._steps is not None and self._is_due(step) else None)
        except RankLost as lost:
            log.error("%s: nothing of this step is saved, and the checkpoint before it stands", lost)
            self._lost = True
            raise Terminated(self._exit_code) from lost

    def _all_state(self) -> dict[str, Any]:
        return {**self.state, "rng": GlobalRandom()} if self._rng and "rng" not in self.state else self.state

    def _tree(self) -> Tree:
        return Tree(self._all_state(), self._replicated, self.rank, self.world_size)

    @many_objects()
    def _load(self, writer: _core.Writer) -> None:
        whole = self._all_state()
        saved: list[Saved] = []

        def load(step: int, ranks: int, text: bytes, own: Tensors, shared: Tensors) -> list[_core.Request]:
            whence = f"the checkpoint of step {step} in {self.dir}"
            one = Saved(text, own, shared, whole, whence)
            if ranks != self.world_size:
                whose = [f"state[{name!r}]" for name in one.own if name != "rng" or name in self.state]
                if whose:
                    raise StateError(
                        f"{whence} was saved by {ranks} ranks, and {self.world_size} would resume it: start {ranks}, or "
                        f"give a run of another size a folder of its own. Each rank saved its own {' and '.join(whose)}: "
                        "what is the same on all ranks can be named in replicated=, before it is saved"
                    )
                if "rng" not in self.state and one.node.pop("rng", None) is not None:
                    log.info("saved by %d ranks, resumed by %d: random number generators begin anew", ranks, self.world_size)
            one.make_rooms()
            saved[:] = [one]
            return one.requests

        begun = time.monotonic()
        found, passed_over = writer.resume(self.rank, self.world_size, load)
        for name, why in passed_over:
            log.warning("passed over %s: %s", name, why)
        if found is None:
            log.info("no checkpoint in %s: begins anew", self.dir)
            return
        step = found[0]
        random = saved[0].node.get("rng") if "rng" not in self.state else None
        if not self._rng or random is None:
            whole.pop("rng", None) if whole is not self.state else None
            if random is not None:
                saved[0].node.pop("rng")
        saved[0].apply(self._strict)
        for name in self.state:
            self.state[name] = whole[name]
        if isinstance(whole.get("rng"), GlobalRandom):
            self._random = GlobalRandom().state_dict()
        self._step = self._saved = self._base = step
        self._position = saved[0].header["position"]
        if self._ranks is not None:
            self._ranks.done_with(step)
        size = sum(room.nbytes for room in saved[0].rooms.values())
        log.info("resumed after step %d (%s in %s)", step, _size(size), _span(time.monotonic() - begun))

    def _announce(self) -> None:
        self._nbytes = self._tree().nbytes
        if self.rank > 0:
            return
        for name, value in self.state.items():
            if self.world_size > 1 and type(value).__name__ == "DistributedDataParallel" and name not in self._replicated:
                log.info(
                    "state[%r] is written %d times: it is the same on all ranks, so name it in replicated=",
                    name,
                    self.world_size,
                )
        try:
            bandwidth = _core.measure(self.dir, 256 << 20, 0.3)
        except (OSError, _core.CheckpointError) as error:
            log.warning("how fast %s is cannot be measured: %s", self.dir, error)
            return
        self._estimate = _estimate(self._nbytes, bandwidth, self._grace)
        log.info("%s", self._estimate)
        self._warn()
        self._report(self._estimate.seconds)

    def _warn(self) -> None:
        if self._estimate is not None and not self._estimate.fits:
            log.warning(
                "a last save would not fit: raise terminationGracePeriodSeconds to %d or more, or use faster storage; until "
                "then a termination may cost what was trained since the save before",
                int(self._estimate.seconds * 1.25) + 5,
            )

    def _report(self, save_seconds: float, step: int | None = None, saved_at: float | None = None) -> None:
        """Tells the cluster, where there is one. What a save takes is what it took, or an estimate."""
        if self._reporter is None:
            return
        self._reporter.tell(
            run=self._run,
            place=str(self.dir),
            startedAt=moment(self._started),
            step=step,
            savedAt=None if saved_at is None else moment(saved_at),
            stateBytes=self._nbytes,
            saveSeconds=round(min(save_seconds, 86400.0), 3),
            pods=pods(self.world_size),
        )

    def _prepare(self) -> None:
        """After the first step all of the state is there (an optimizer makes its own in it): its memory is made beside the
        training, so that the first save does not wait for that."""
        if self._prepared:
            return
        self._prepared = True
        tree = self._tree()
        grown, self._nbytes = tree.nbytes > self._nbytes * 1.1, tree.nbytes
        if grown and self._estimate is not None:
            self._estimate = _estimate(tree.nbytes, self._estimate.bandwidth, self._grace)
            log.info("after the first step %s", self._estimate)
            self._warn()
        if notice.at is None:
            self._preparing = threading.Thread(target=self._allocate, args=(_places(tree)[1],), name="bedplate-memory")
            self._preparing.start()

    def _allocate(self, nbytes: int) -> None:
        try:
            self._memory = _core.Memory(nbytes, touched=True)
        except MemoryError as error:
            log.warning("%s: a save will try again", error)

    @many_objects()
    def _begin(self, final: bool) -> tuple[_Save, list[Leaf]]:
        """A save whose snapshot is to be filled with these arrays."""
        if self._preparing is not None:
            self._preparing.join()
            self._preparing = None
        tree = self._tree()
        self._nbytes = tree.nbytes
        places, end = _places(tree)
        if self._memory is None or self._memory.nbytes < end:
            # The old one goes first: there may not be room for both.
            self._memory = None
            self._memory = _core.Memory(end, touched=True)
        base, leaves = self._memory.address, list(tree.leaves.values())
        arrays = [
            (name, leaf.dtype, leaf.shape, leaf.place, leaf.address if leaf.copy is None else 0, base + place, leaf.nbytes)
            for (name, leaf), place in zip(tree.leaves.items(), places, strict=True)
        ]
        snapshot = _core.Snapshot(self._memory, arrays)
        step = self._step if self._step is not None else 0
        metrics = {}
        for name, value in (self._metrics or {}).items():
            try:
                metrics[name] = float(value)
            except (TypeError, ValueError):
                raise StateError(f"metrics[{name!r}] is a {type(value).__name__}, and no number") from None
        text = tree.encode(position=self._position)
        return _Save(step, text, tree.agreed, snapshot, tree.nbytes, metrics, final), leaves

    def _start_save(self, final: bool) -> None:
        # One memory: the save before has to be written. A last save, and one that ranks agreed on, waits for that.
        self._wait(None)
        if self._failure is not None and not final:
            log.error("the save before failed: %s; the checkpoints before it are whole, training goes on", self._failure)
        self._failure = None
        save, leaves = self._begin(final)
        self._thread = threading.Thread(target=self._write, args=(save,), name="bedplate-save", daemon=False)
        try:
            # What is copied is written at once; nothing is published before all is.
            self._thread.start()
            _copy(leaves, save.snapshot)
        except BaseException:
            save.snapshot.give_up()
            self._wait(None)
            # It tells that the copy was given up; what counts is why.
            self._failure = None
            raise
        self._due = time.monotonic() + (self._seconds or 0)
        self._base, self._said_busy = save.step, False

    def _write(self, save: _Save) -> None:
        try:
            self._write_or_raise(save, 0)
            self._saved = save.step
        except _core.NoSpaceError as error:
            # A last save is worth more than the older ones.
            if not save.final or self.world_size > 1 or self._writer is None:
                self._failure = error
                return
            log.warning("%s; removing all but the newest checkpoint for the last one", error)
            try:
                self._writer.prune(1, None, None)
                self._write_or_raise(save, 1)
                self._saved = save.step
            except Exception as again:  # noqa: BLE001 told by whoever waits
                self._failure = again
        except Exception as error:  # noqa: BLE001 told by whoever waits, or at the next save
            self._failure = error

    def _write_or_raise(self, save: _Save, attempt: int) -> None:
        writer = self._writer
        if writer is None:
            return
        named = (save.step, attempt, self.world_size)
        begun = time.monotonic()
        written, linked = writer.save_part(named, self.rank, save.tree, save.agreed, save.snapshot)
        user = json.dumps({"bedplate": {"nbytes": save.nbytes}})
        # The last rank to be done publishes at once; the others see that.
        parts = time.monotonic()
        while missing := writer.publish(named, self.rank, int(time.time()), save.metrics, user):
            if time.monotonic() - parts > self._patience():
                raise RankLost(f"step {save.step}: rank {', '.join(map(str, missing))} did not save its part")
            time.sleep(0.02)
        spent = time.monotonic() - begun
        log.info(
            "saved step %d: %s written%s in %s",
            save.step,
            _size(written),
            f", {_size(linked)} as before" if linked else "",
            _span(spent),
        )
        # What came since the copy was taken would be lost.
        self._report(spent, save.step, time.time() - spent)
        # To remove an old one of 100 GiB takes ten seconds, which a grace may not have: the next run's first save does it.
        if self.rank == 0 and notice.at is None:
            for told in writer.prune(self._keep, self._keep_every, self._best):
                log.warning("%s", told)

    def _patience(self) -> float:
        """Seconds that a rank which is done waits for the parts of others."""
        if self._ranks is None or self._lost:
            return 0.0
        return 600.0 if notice.at is None else self._ranks.deadline

    def _wait(self, save: str | None) -> None:
        """Waits for the save that is being written; with a name, tells how far it is."""
        thread, writer = self._thread, self._writer
        if thread is None or writer is None:
            return
        before, begun, heard = writer.written, time.monotonic(), notice.times
        total = self._nbytes
        while thread.is_alive():
            thread.join(1.0 if save else 0.2)
            if save is None or not thread.is_alive():
                continue
            done, spent = writer.written - before, time.monotonic() - begun
            left = f"{_span(max(0.0, total - done) * spent / done)} left" if done and total > done else "finishing"
            grace = ""
            if notice.at is not None:
                rest = self._grace[0] - (time.monotonic() - notice.at)
                grace = f", {_span(max(rest, 0.0))} of grace"
            again = " (told again to end: goes on until it is whole)" if notice.times > heard else ""
            heard = notice.times
            log.info("%s: %s of %s, %s%s%s", save, _size(done), _size(total), left, grace, again)
        self._thread = None

    def _last_save(self) -> None:
        """Saves after the notice, and ends the process."""
        self._state = "stopping"
        try:
            self._wait("the save that was begun before")
            if self._step is None:
                log.warning("told to end (%s) before the first step: there is nothing to save", notice.name)
            elif self._saved != self._step:
                log.info("told to end (%s): saving step %d", notice.name, self._step)
                self._start_save(final=True)
                self._wait(f"saving step {self._step}")
            if self._failure is not None:
                log.error("the last save failed: %s; the newest whole checkpoint is the one before", self._failure)
            elif self._step is not None:
                log.info("step %d is durable; ends with exit code %d, to be resumed", self._step, self._exit_code)
        finally:
            self._end()
        raise Terminated(self._exit_code)

    def _raise_fenced(self) -> None:
        if isinstance(self._failure, _core.FencedError):
            self._raise_failure()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


def _copy(leaves: Sequence[Leaf], snapshot: _core.Snapshot) -> None:
    """Fills a snapshot. All that a training step waits for."""
    for index in snapshot.copy():
        leaf = leaves[index]
        if leaf.copy is not None:
            leaf.copy(snapshot.address(index))
        snapshot.copied(index)


def _places(tree: Tree) -> tuple[list[int], int]:
    """Where each array lies in the memory of a snapshot, and the end."""
    places, end = [], 0
    for leaf in tree.leaves.values():
        # Large ones begin on a page: whole pages go to the device from where they are.
        align = 4096 if leaf.nbytes >= 1 << 16 else 64
        end = -(-end // align) * align
        places.append(end)
        end += leaf.nbytes
    return places, end


def _workers_were_ended(error: BaseException) -> bool:
    """torch tells so of DataLoader workers that got the same notice, when the next batch is fetched: between two steps.

    A batch that lies with a worker as a file is not there any more: then it is the connection that torch tells of.
    """
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return True
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return isinstance(error, (EOFError, OSError)) and any(
        frame.f_globals.get("__name__") == "torch.utils.data.dataloader" for frame in frames
    )


def _speak() -> None:
    """A log that nobody has set up would swallow what has to be told."""
    if not log.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("bedplate: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
