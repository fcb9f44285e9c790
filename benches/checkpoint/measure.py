"""Saves and restores a state of torch tensors in one way, and prints what that took as JSON. Run once a way and round, in a
process of its own, by `cargo xtask bench checkpoint`: `measure.py WAY FOLDER GIB`."""

import json
import mmap
import os
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

PIECE = 8 << 20
THREADS = 4

SAVES = 4
RESTORES = 2
"""How often each is measured in a process."""


def made(gib: float) -> dict[str, torch.Tensor]:
    """A transformer's weights: in each layer four large matrices, and some vectors. Random, so that nothing compresses it."""
    width = 2048
    layer = 4 * width * width * 4 + 6 * width * 4
    layers = max(1, round(gib * (1 << 30) / layer))
    state = {}
    random = np.random.default_rng(1)
    for number in range(layers):
        for name in ("attention.in", "attention.out", "mlp.in", "mlp.out"):
            state[f"layers.{number}.{name}"] = torch.from_numpy(
                random.random((width, width), dtype=np.float32)
            )
        for name in ("norm1", "norm2", "bias1", "bias2", "bias3", "bias4"):
            state[f"layers.{number}.{name}"] = torch.from_numpy(
                random.random(width, dtype=np.float32)
            )
    return state


def huge(size: int) -> mmap.mmap:
    """New memory, in huge pages where there are some."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def back(size: int) -> None:
    """A virtual machine may have memory that its host has not given it, or that it gave back some seconds after it was freed
    (free page reporting): to touch that costs ten times the copy, and would hit whoever comes to it first. It is touched
    here, and freed again."""
    size = min(size, int(0.7 * os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE))
    memory = huge(size)
    np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE] = 1
    memory.close()


def synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def cold(folder: Path) -> None:
    """The page cache has nothing of these files any more: they are synced."""
    os.sync()
    for path in files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


class Way:
    """`save` returns when the loop may go on, `durable` when a loss of power costs nothing of it."""

    def __init__(self, folder: Path, state: dict[str, torch.Tensor]) -> None:
        self.folder, self.state = folder, state
        self.begin()

    def begin(self) -> None: ...

    def place(self, step: int) -> Path:
        return self.folder / f"step-{step}"

    def save(self, step: int) -> None: ...

    def durable(self) -> None: ...

    def restore(self, step: int) -> None: ...

    def drop(self, step: int) -> None:
        """Makes room, when nothing is measured."""
        path = self.place(step)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def end(self) -> None: ...

    def put(self, loaded: dict[str, torch.Tensor]) -> None:
        for name, tensor in self.state.items():
            tensor.copy_(loaded[name])


class Bedplate(Way):
    """`Guard.step` with a save that is due."""

    def begin(self) -> None:
        import bedplate

        # Its one line at the start measures the folder for 0.3 s: no part of a save.
        bedplate.Guard._announce = lambda guard: None
        self.guard = bedplate.Guard(
            self.folder, {"model": self.state}, every=1, rng=False, keep=99
        ).start()

    def save(self, step: int) -> None:
        self.guard.step(step)

    def durable(self) -> None:
        self.guard._wait(None)
        self.guard._raise_failure()

    def restore(self, step: int) -> None:
        import bedplate

        guard = bedplate.Guard(
            self.folder, {"model": self.state}, every=None, rng=False
        ).start()
        if guard.last_step != step:
            raise SystemExit(f"restored step {guard.last_step}, not {step}")
        guard.close()

    def drop(self, step: int) -> None:
        shutil.rmtree(self.folder / f"step-{step:012}-g00000001")


class TorchSave(Way):
    """`torch.save`, a name by rename, and no fsync: a loss of power may leave an empty file under the right name."""

    sync = False

    def save(self, step: int) -> None:
        path = self.place(step)
        self.write(path.with_suffix(".tmp"))
        if self.sync:
            synced(path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)
        if self.sync:
            synced(self.folder)

    def write(self, path: Path) -> None:
        torch.save(self.state, path)

    def restore(self, step: int) -> None:
        self.put(torch.load(self.place(step), weights_only=True))


class TorchSaveSynced(TorchSave):
    """`torch.save`, fsync, rename, fsync of the folder."""

    sync = True


class Safetensors(TorchSaveSynced):
    """`safetensors.torch.save_file`, fsync, rename, fsync of the folder."""

    def write(self, path: Path) -> None:
        from safetensors.torch import save_file

        save_file(self.state, path)

    def restore(self, step: int) -> None:
        from safetensors.torch import load_file

        self.put(load_file(self.place(step)))


class Numpy(TorchSaveSynced):
    """`np.save` of each tensor into one file, fsync, rename, fsync of the folder."""

    def write(self, path: Path) -> None:
        with path.open("wb") as file:
            for tensor in self.state.values():
                np.save(file, tensor.numpy())

    def restore(self, step: int) -> None:
        with self.place(step).open("rb") as file:
            for tensor in self.state.values():
                tensor.copy_(torch.from_numpy(np.load(file)))


class Dcp(Way):
    """`torch.distributed.checkpoint.save`, which syncs its files."""

    def begin(self) -> None:
        import torch.distributed as dist

        store = dist.FileStore(str(self.folder.with_suffix(".store")), 1)
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)

    def save(self, step: int) -> None:
        import torch.distributed.checkpoint as dcp

        dcp.save({"model": self.state}, checkpoint_id=self.place(step))

    def restore(self, step: int) -> None:
        import torch.distributed.checkpoint as dcp

        dcp.load({"model": self.state}, checkpoint_id=self.place(step))

    def end(self) -> None:
        import torch.distributed as dist

        dist.destroy_process_group()


class DcpAsync(Dcp):
    """`torch.distributed.checkpoint.async_save`."""

    def save(self, step: int) -> None:
        import torch.distributed.checkpoint as dcp

        self.future = dcp.async_save(
            {"model": self.state}, checkpoint_id=self.place(step)
        )

    def durable(self) -> None:
        getattr(self.future, "upload_completion", self.future).result()


class Orbax(Way):
    """Orbax's `StandardCheckpointer`, with JAX arrays on the CPU. The tensors are the memory of those, as far as the bench
    changes and compares them; what is restored are new arrays, and copied into them."""

    def begin(self) -> None:
        import jax
        import orbax.checkpoint

        self.arrays = {
            name: jax.numpy.array(tensor.numpy()) for name, tensor in self.state.items()
        }
        self.state.update(
            {name: torch.from_dlpack(array) for name, array in self.arrays.items()}
        )
        self.checkpointer = orbax.checkpoint.StandardCheckpointer()

    def save(self, step: int) -> None:
        self.checkpointer.save(self.place(step), self.arrays)

    def durable(self) -> None:
        self.checkpointer.wait_until_finished()

    def restore(self, step: int) -> None:
        import jax

        forms = {
            name: jax.ShapeDtypeStruct(array.shape, array.dtype)
            for name, array in self.arrays.items()
        }
        found = self.checkpointer.restore(self.place(step), forms)
        self.put({name: torch.from_dlpack(array) for name, array in found.items()})

    def end(self) -> None:
        self.checkpointer.close()


class Raw(Way):
    """The device: O_DIRECT from and to memory that is there, 8 MiB a piece, 4 threads, fallocate, fsync. No tensor, no
    checksum, no name."""

    def begin(self) -> None:
        self.size = sum(tensor.nbytes for tensor in self.state.values()) // 4096 * 4096
        self.view = memoryview(huge(self.size))
        self.fill()

    def fill(self) -> None:
        at = 0
        for tensor in self.state.values():
            part = memoryview(tensor.numpy()).cast("B")[: self.size - at]
            self.view[at : at + len(part)] = part
            at += len(part)

    def each(self, work) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(
                pool.map(
                    lambda at: work(at, self.view[at : min(at + PIECE, self.size)]),
                    range(0, self.size, PIECE),
                )
            )

    def save(self, step: int) -> None:
        file = os.open(self.place(step), os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        os.posix_fallocate(file, 0, self.size)

        def write(at: int, part: memoryview) -> None:
            if os.pwrite(file, part, at) != len(part):
                raise SystemExit("a piece was not written whole")

        self.each(write)
        os.fsync(file)
        os.close(file)

    def restore(self, step: int) -> None:
        file = os.open(self.place(step), os.O_RDONLY | os.O_DIRECT)

        def read(at: int, part: memoryview) -> None:
            if os.preadv(file, [part], at) != len(part):
                raise SystemExit("a piece was not read whole")

        self.each(read)
        os.close(file)


class RawCopied(Raw):
    """The device and a copy, one after the other. A restore reads into new memory, and copies that into the tensors when all
    is there: what changes nothing before all of it was verified cannot do with less."""

    def save(self, step: int) -> None:
        self.fill()
        super().save(step)

    def restore(self, step: int) -> None:
        kept, self.view = self.view, memoryview(huge(self.size))
        super().restore(step)
        at = 0
        for tensor in self.state.values():
            part = torch.frombuffer(
                self.view[at : at + tensor.nbytes], dtype=tensor.dtype
            )
            tensor.copy_(part.view(tensor.shape))
            at += tensor.nbytes
        self.view = kept


class Copy(Way):
    """A copy into memory that is there, by torch's threads: what no snapshot can be quicker than."""

    def begin(self) -> None:
        self.to = {name: tensor.clone() for name, tensor in self.state.items()}

    def save(self, step: int) -> None:
        for name, tensor in self.state.items():
            self.to[name].copy_(tensor)

    def drop(self, step: int) -> None: ...

    def restore(self, step: int) -> None:
        self.put(self.to)


WAYS = {
    "bedplate": Bedplate,
    "torch.save": TorchSave,
    "torch.save+fsync": TorchSaveSynced,
    "dcp": Dcp,
    "dcp-async": DcpAsync,
    "orbax": Orbax,
    "safetensors": Safetensors,
    "np.save": Numpy,
    "raw": Raw,
    "raw+copy": RawCopied,
    "memcpy": Copy,
}


def memory(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def forget_peak() -> None:
    """From here on `VmHWM` is the peak of what follows."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    name, folder, gib = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    folder.mkdir(parents=True)
    state = made(gib)
    size = sum(tensor.nbytes for tensor in state.values())
    before = memory("VmRSS:")
    forget_peak()
    way = WAYS[name](folder, state)
    # The first save makes what later ones use again: memory, pools, plans.
    way.save(1)
    way.durable()
    while threading.active_count() > 1 and any(
        thread.name == "bedplate-memory" for thread in threading.enumerate()
    ):
        time.sleep(0.01)
    peak = memory("VmHWM:")
    pauses, durables = [], []
    last = 1 + SAVES
    for step in range(2, last + 1):
        # A step of training: what has not changed is not written again.
        for tensor in state.values():
            tensor += 1
        back(2 * size)
        forget_peak()
        begun = time.perf_counter()
        way.save(step)
        pauses.append(time.perf_counter() - begun)
        way.durable()
        durables.append(time.perf_counter() - begun)
        peak = max(peak, memory("VmHWM:"))
        way.drop(step - 1)
        os.sync()
    expected = {name: tensor.double().sum().item() for name, tensor in state.items()}
    times: dict[bool, list[float]] = {True: [], False: []}
    for drop in (True, False) * RESTORES:
        for tensor in state.values():
            tensor.zero_()
        if drop:
            cold(folder)
        else:
            for path in files(folder):
                path.read_bytes()
        back(2 * size)
        begun = time.perf_counter()
        way.restore(last)
        times[drop].append(time.perf_counter() - begun)
        if name != "raw" and expected != {
            name: tensor.double().sum().item() for name, tensor in state.items()
        }:
            raise SystemExit("it restored something else")
    way.end()
    found = {
        "paused": pauses,
        "durable": durables,
        "cold": times[True],
        "warm": times[False],
    }
    print(json.dumps({"bytes": size, "peak": peak - before, **found}))
    sys.stdout.flush()
    # Threads of a library that go on are none of ours.
    os._exit(0)


main()
