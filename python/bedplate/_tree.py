"""A state as a tree of JSON and a list of arrays, and back.

Lists, numbers, texts, booleans and `None` are as JSON has them; all else is an object with one key that says what it is.
Nothing is pickled: whoever resumes a checkpoint runs no code that is in it, and what cannot be saved is told by its path.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import gc
import heapq
import json
import math
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from . import _core
from ._arrays import Leaf, Room, Unsavable, described, fill, leaf_of, room_for
from ._sharded import Sharding

VERSION = 1

SMALL = 1 << 20
"""Below so many bytes rank 0 saves what is replicated: buffers that drift apart, as the statistics of a BatchNorm, are taken
from it by DDP too."""

Tensors = list[tuple[str, str, list[int]]]
"""Name, type in the file, shape."""

_DICTS: dict[str, Callable[..., Any]] = {
    "dict": dict,
    "OrderedDict": collections.OrderedDict,
    "Counter": collections.Counter,
    "defaultdict": dict,
}
_SEQUENCES: dict[str, Callable[..., Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
    # torch.Size
    "Size": tuple,
}


class StateError(TypeError):
    """A part of the state cannot be saved, or what was saved does not fit it; the message has its path."""


def has_state(value: Any) -> bool:
    """Whether an object gives and takes its state: modules, optimizers, schedulers, dataloaders."""
    return (
        not isinstance(value, type)
        and callable(getattr(value, "state_dict", None))
        and callable(getattr(value, "load_state_dict", None))
    )


def _random(value: Any) -> tuple[str, Any, Callable[[Any], None]] | None:
    """A random number generator: what it is, its state, and how to set that."""
    if isinstance(value, random.Random):
        return "random.Random", value.getstate(), lambda state: value.setstate(_tupled(state))
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and isinstance(value, (numpy.random.Generator, numpy.random.BitGenerator)):
        bits = getattr(value, "bit_generator", value)
        return "numpy.random.Generator", bits.state, lambda state: setattr(bits, "state", state)
    if torch is not None and isinstance(value, torch.Generator):
        return "torch.Generator", value.get_state(), value.set_state
    return None


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, (list, tuple)) else value


class GlobalRandom:
    """The generators that a program uses without naming them, of what is imported."""

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"python": random.getstate()}
        if (numpy := sys.modules.get("numpy")) is not None:
            state["numpy"] = numpy.random.get_state(legacy=False)
        if (torch := sys.modules.get("torch")) is not None:
            state["torch"] = torch.get_rng_state()
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        random.setstate(_tupled(state["python"]))
        if "numpy" in state and (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.set_state(state["numpy"])
        if "torch" in state and (torch := sys.modules.get("torch")) is not None:
            torch.set_rng_state(state["torch"])
            if "cuda" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state_all(state["cuda"])


@contextlib.contextmanager
def many_objects() -> Iterator[None]:
    """For what makes many objects and no garbage: Python would look through all that there are again and again, which takes
    as long as the work itself."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Tree:
    """A state, taken apart: `node` for JSON, and arrays by name. What the parts `replicated` have is the same on all ranks:
    each array of it is saved by one of them."""

    def __init__(
        self, state: Mapping[str, Any], replicated: Collection[str] = (), rank: int = 0, world_size: int = 1
    ) -> None:
        self._leaves: dict[str, Leaf] = {}
        self.shardings: list[Sharding] = []
        """Of the tensors that lie on several ranks."""
        self._names: dict[tuple[Any, ...], str] = {}
        self._within: set[int] = set()
        self._is_replicated = False
        self._world_size = world_size
        self._replicated = sorted(replicated)
        # One key a part, so that the parts of two states can be compared by name.
        self.node: dict[str, Any] = {}
        for name, value in state.items():
            self._is_replicated = name in replicated
            self.node[name] = self._take(value, f"state[{name!r}]", name)
        shared = [(name, leaf) for name, leaf in self._leaves.items() if leaf.place is not None and leaf.sharding is None]
        self.agreed = json.dumps([(name, leaf.dtype, leaf.shape) for name, leaf in sorted(shared)]).encode()
        """What all ranks have to have alike, since each leaves most of it to others."""
        # The largest first, each to whom has least: the same on all ranks.
        least = [(0, one) for one in range(world_size)]
        for _, leaf in sorted(shared, key=lambda one: (-one[1].nbytes, one[0])):
            nbytes, one = least[0]
            if leaf.nbytes < SMALL:
                one = 0
            else:
                heapq.heapreplace(least, (nbytes + leaf.nbytes, one))
            leaf.is_saved_here = one == rank
        self.leaves = {name: leaf for name, leaf in self._leaves.items() if leaf.is_saved_here}
        """The arrays that this rank saves."""

    @property
    def nbytes(self) -> int:
        return sum(leaf.nbytes for leaf in self.leaves.values())

    def encode(self, **more: Any) -> bytes:
        tree = {"version": VERSION, "state": self.node, "replicated": self._replicated, **more}
        return json.dumps(tree, separators=(",", ":")).encode()

    def _take(self, value: Any, path: str, name: str) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is complex:
            return {"complex": [value.real.hex(), value.imag.hex()]}
        try:
            leaf = leaf_of(value)
        except Unsavable as error:
            raise StateError(f"{path} cannot be saved: {error}") from None
        if leaf is not None:
            if leaf.kind == "bytes" and leaf.nbytes <= 64:
                return {"bytes": base64.b64encode(value).decode()}
            self._share(leaf)
            added = self._add(leaf, name)
            node: dict[str, Any] = {"array": added, "kind": leaf.kind, "type": leaf.spelled}
            if leaf.sharding is not None:
                self.shardings.append(leaf.sharding)
                node["sharding"] = leaf.sharding.encode()
            if self._leaves[added].place is not None:
                node["shared"] = True
            return node
        if id(value) in self._within:
            raise StateError(f"{path} cannot be saved: it holds itself")
        self._within.add(id(value))
        try:
            return self._take_apart(value, path, name)
        finally:
            self._within.discard(id(value))

    def _take_apart(self, value: Any, path: str, name: str) -> Any:
        kind = type(value)
        if kind is list:
            return [self._take(item, f"{path}[{index}]", f"{name}.{index}") for index, item in enumerate(value)]
        if (generator := _random(value)) is not None:
            what, state, _ = generator
            return {"random": what, "value": self._take(state, path, name)}
        if has_state(value):
            return {"state": self._take(value.state_dict(), path, name)}
        if kind.__name__ in _DICTS and isinstance(value, dict):
            items = [
                [self._key(key, path), self._take(item, f"{path}[{key!r}]", f"{name}.{key}")] for key, item in value.items()
            ]
            node = {kind.__name__: items}
            # torch keeps the versions of its modules there.
            metadata = getattr(value, "_metadata", None)
            if metadata is not None:
                node["metadata"] = self._take(metadata, f"{path}._metadata", f"{name}._metadata")
            return node
        named = isinstance(value, tuple) and hasattr(value, "_fields")
        if named or (kind.__name__ in _SEQUENCES and isinstance(value, (tuple, set, frozenset, collections.deque))):
            # A set has no order: sorted by how its items look, so that the same set is the same file.
            items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
            taken = [self._take(item, f"{path}[{index}]", f"{name}.{index}") for index, item in enumerate(items)]
            return {"tuple" if named else kind.__name__: taken}
        what = "a function" if callable(value) and hasattr(value, "__name__") else f"a {kind.__module__}.{kind.__qualname__}"
        raise StateError(
            f"{path} cannot be saved: it is {what}; give an object with state_dict() and load_state_dict(), or numbers, "
            "texts, arrays, and lists and dicts of them, or leave it out"
        )

    def _key(self, key: Any, path: str) -> Any:
        if type(key) is tuple:
            return {"tuple": [self._key(item, path) for item in key]}
        if key is None or type(key) in (bool, int, str) or (type(key) is float and math.isfinite(key)):
            return key
        raise StateError(f"{path} cannot be saved: it has the key {key!r}; keys are texts and numbers")

    def _share(self, leaf: Leaf) -> None:
        """Says where it belongs in what all ranks share, if they do."""
        sharding = leaf.sharding
        if sharding is None:
            if self._is_replicated:
                leaf.place = leaf.shape, (0,) * len(leaf.shape)
        # A mesh of some ranks only may have a namesake on others, as stages of a pipeline have.
        elif sharding.of.device_mesh.size() == self._world_size and math.prod(sharding.shape):
            part = sharding.part(sharding.shape)
            # Numbers of types that files do not have are several of another, along one more axis.
            more = leaf.shape[len(sharding.shape) :]
            if part is not None and part[0] + more == leaf.shape:
                leaf.place = sharding.shape + more, part[1] + (0,) * len(more)
                leaf.is_saved_here = part[2] and leaf.nbytes > 0

    def _add(self, leaf: Leaf, name: str) -> str:
        if leaf.identity is not None and (known := self._names.get(leaf.identity)) is not None:
            return known
        unique, number = name, 1
        while unique in self._leaves:
            number += 1
            unique = f"{name}~{number}"
        self._leaves[unique] = leaf
        if leaf.identity is not None:
            self._names[leaf.identity] = unique
        return unique


class Saved:
    """A tree that was read, for a state: first `rooms` for its arrays, then, when all are there, `apply`."""

    def __init__(self, text: bytes, tensors: Tensors, shared: Tensors, state: dict[str, Any], whence: str) -> None:
        read = json.loads(text)
        if read["version"] > VERSION:
            raise StateError(f"a newer bedplate saved this state (version {read['version']}): install that one")
        self.header: dict[str, Any] = read
        self.node: dict[str, Any] = read["state"]
        self._state, self._whence = state, whence
        self._own = {name: (dtype, shape) for name, dtype, shape in tensors}
        self._shared = {name: (dtype, shape) for name, dtype, shape in shared}
        self.rooms: dict[str, Room] = {}
        self.requests: list[_core.Request] = []
        """For each room: the array, where it begins in the whole (not of one that is this rank's own), its shape, address,
        bytes."""
        self._values: dict[str, Any] = {}
        self._here: dict[str, Sharding | None] = {}
        """How the tensors that lay on several ranks lie now."""
        self._sharded: dict[str, Any] = {}
        self._shardings: list[Sharding] | None = None

    @property
    def own(self) -> list[str]:
        """The parts that are each rank's own."""
        return [name for name in self.node if name not in self.header.get("replicated", ())]

    def make_rooms(self) -> None:
        for node in self.node.values():
            self._make_rooms(node)

    def _make_rooms(self, node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                self._make_rooms(item)
        elif isinstance(node, dict):
            if "array" not in node or not isinstance(node["array"], str):
                for item in node.values():
                    self._make_rooms(item)
            elif node["array"] not in self.rooms:
                self._make_room(node)

    def _make_room(self, node: dict[str, Any]) -> None:
        name, is_shared = node["array"], "shared" in node
        found = (self._shared if is_shared else self._own).get(name)
        if found is None:
            raise StateError(f"{self._whence} has no array {name!r}, which its tree names")
        dtype, shape = found
        offset = [0] * len(shape) if is_shared else None
        if "sharding" in node:
            sharding = Sharding.decode(node["sharding"])
            here = self._here[name] = self._how(sharding, is_shared)
            part = here.part(sharding.shape) if here is not None and is_shared else None
            if part is not None and offset is not None:
                shape[: len(sharding.shape)], offset[: len(sharding.shape)] = part[0], part[1]
            elif here is not None and is_shared:
                raise StateError(
                    f"{self._whence} has tensors {sharding}, and here they are cut {here}: shard them as they were"
                )
        room = self.rooms[name] = room_for(node["kind"], node["type"], dtype, shape)
        self.requests.append((name, offset, shape, room.address, room.nbytes))

    def _how(self, sharding: Sharding, is_shared: bool) -> Sharding | None:
        """How a tensor lies here that lay so; `None` where all tensors of the state are whole, and this one can be too."""
        if self._shardings is None:
            self._shardings = Tree(self._state).shardings
        if is_shared and not self._shardings:
            return None
        try:
            return sharding.here(self._shardings, is_shared)
        except ValueError as error:
            raise StateError(f"{self._whence} does not fit the state: {error}") from None

    def apply(self, strict: bool) -> None:
        """Puts everything into its place. Nothing is touched before names and shapes of plain arrays were compared."""
        state, whence = self._state, self._whence
        new, gone = state.keys() - self.node.keys(), self.node.keys() - state.keys()
        if strict and (new or gone):
            said = [f"state[{name!r}] is not in it" for name in sorted(new)]
            said += [f"it has state[{name!r}], which is not here" for name in sorted(gone)]
            raise StateError(
                f"{whence} does not fit the state: {'; '.join(said)}; give the same names, or strict=False to go on with "
                "what there is"
            )
        both = [name for name in self.node if name in state]
        for name in both:
            self._compare(state[name], self.node[name], f"state[{name!r}]", whence)
        for name in both:
            path = f"state[{name!r}]"
            try:
                restored = self._put(state[name], self.node[name], path, whence)
            except StateError:
                raise
            except Exception as error:
                raise StateError(f"{whence} does not fit {path}: {error}") from error
            if restored is not state[name]:
                state[name] = restored

    def _compare(self, target: Any, node: Any, path: str, whence: str) -> None:
        if not isinstance(node, dict):
            return
        if "state" in node and not has_state(target):
            raise StateError(f"{whence} does not fit: {path} was an object with a state, and is a {type(target).__name__}")
        if "array" in node and isinstance(node["array"], str) and (have := described(target)) is not None:
            saved = described(self._value(node))
            if saved is not None and saved != have:
                form = "{} {}".format
                raise StateError(
                    f"{whence} does not fit: {path} is {form(have[0], list(have[1]))} here and "
                    f"{form(saved[0], list(saved[1]))} there; give the state its old shape, or start a run of its own"
                )
        for kind in _DICTS:
            if kind in node and isinstance(target, dict):
                for key, item in node[kind]:
                    key = self._build(key)
                    if key in target:
                        self._compare(target[key], item, f"{path}[{key!r}]", whence)

    def _value(self, node: dict[str, Any]) -> Any:
        name = node["array"]
        if name not in self._values:
            self._values[name] = self.rooms[name].finish()
        here = self._here.get(name)
        if here is None:
            return self._values[name]
        if name not in self._sharded:
            self._sharded[name] = Sharding.decode(node["sharding"]).whole(self._values[name], here)
        return self._sharded[name]

    def _put(self, target: Any, node: Any, path: str, whence: str) -> Any:
        """Restores into what is there, where that can be; gives what is to stand there."""
        if isinstance(node, list) and isinstance(target, list):
            if len(node) == len(target):
                target[:] = [self._put(old, item, path, whence) for old, item in zip(target, node, strict=True)]
            else:
                target[:] = [self._build(item) for item in node]
            return target
        if not isinstance(node, dict):
            return self._build(node)
        if "state" in node:
            if not has_state(target):
                raise StateError(f"{whence} does not fit: {path} has no load_state_dict()")
            target.load_state_dict(self._build(node["state"]))
            return target
        if "random" in node:
            generator = _random(target)
            if generator is None or generator[0] != node["random"]:
                raise StateError(f"{whence} does not fit: {path} was a {node['random']}, and is a {type(target).__name__}")
            generator[2](self._build(node["value"]))
            return target
        if "array" in node and isinstance(node["array"], str):
            value = self._value(node)
            return target if fill(target, value) else value
        for kind in _DICTS:
            if kind in node and isinstance(target, dict):
                items = [(self._build(key), item) for key, item in node[kind]]
                new = {key: self._put(target.get(key), item, f"{path}[{key!r}]", whence) for key, item in items}
                target.clear()
                target.update(new)
                return target
        if "tuple" in node and isinstance(target, tuple) and len(target) == len(node["tuple"]):
            items = [self._put(old, item, path, whence) for old, item in zip(target, node["tuple"], strict=True)]
            return type(target)(*items) if hasattr(target, "_fields") else tuple(items)
        return self._build(node)

    def _build(self, node: Any) -> Any:
        """Makes a value from nothing."""
        if isinstance(node, list):
            return [self._build(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "array" in node and isinstance(node["array"], str):
            return self._value(node)
        if "float" in node:
            return float(node["float"])
        if "complex" in node:
            return complex(*map(float.fromhex, node["complex"]))
        if "bytes" in node:
            return base64.b64decode(node["bytes"])
        for key in ("state", "value"):
            if key in node:
                return self._build(node[key])
        for kind, make in _DICTS.items():
            if kind in node:
                made = make()
                for key, item in node[kind]:
                    made[self._build(key)] = self._build(item)
                if "metadata" in node:
                    made._metadata = self._build(node["metadata"])
                return made
        for kind, make in _SEQUENCES.items():
            if kind in node:
                return make([self._build(item) for item in node[kind]])
        raise StateError(f"the checkpoint has a node of an unknown kind: {', '.join(node)}")
