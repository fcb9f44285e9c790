"""Arrays of numpy, torch, JAX and others that speak DLPack as bytes of the host, and back. None of their libraries is
imported here: whoever has an array of one has imported it, so it is in `sys.modules`."""

from __future__ import annotations

import array
import ctypes
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import _core
from ._sharded import Sharding, sharding_of

Global = tuple[tuple[int, ...], tuple[int, ...]]
"""Where a part belongs: the shape of the whole, and where the part begins in it."""

# The type of an array's elements in numpy, JAX and torch, and in a safetensors file.
TYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}

_PLAIN = {file: name for name, file in TYPES.items()}


class Unsavable(TypeError):
    """Half a sentence: why a value cannot be saved. Whoever knows its path adds that."""


@dataclass
class Leaf:
    """An array to save."""

    kind: str
    """What it is: `numpy`, `scalar` (of numpy), `torch`, `jax`, `key` (of JAX), `bytes`, `bytearray`, `array`."""
    spelled: str
    """Its type, as its library spells it."""
    dtype: str
    """The type in the file."""
    shape: tuple[int, ...]
    """Its shape in the file: a type that files do not have is stored as one that they have."""
    nbytes: int
    identity: tuple[Any, ...] | None
    """The same for two names of one array."""
    owner: Any
    """Holds the memory."""
    address: int
    """Where the bytes are, row-major; 0 when `copy` has to put them there."""
    copy: Callable[[int], None] | None = None
    sharding: Sharding | None = None
    """How it lies with others on several ranks: then all else here is of this rank's part."""
    place: Global | None = None
    """Where it belongs in what all ranks share; `None` for what is this rank's own."""
    is_saved_here: bool = True
    """Whether no other rank saves it."""


def _numpy() -> Any:
    return sys.modules.get("numpy")


def _torch() -> Any:
    # Half imported while it is being imported.
    module = sys.modules.get("torch")
    return module if hasattr(module, "Tensor") else None


def _jax() -> Any:
    module = sys.modules.get("jax")
    return module if hasattr(module, "Array") else None


def memory_at(address: int, nbytes: int) -> Any:
    """A buffer over memory that somebody else holds."""
    return (ctypes.c_ubyte * nbytes).from_address(address)


def leaf_of(value: Any) -> Leaf | None:
    """The array that a value is; `None` when it is none. Raises `Unsavable` for one that cannot be saved."""
    if (torch := _torch()) is not None and isinstance(value, torch.Tensor):
        return _of_torch(torch, value)
    if (numpy := _numpy()) is not None:
        if isinstance(value, numpy.ndarray):
            if type(value) not in (numpy.ndarray, numpy.memmap):
                raise Unsavable(f"a {type(value).__name__} is more than its array: save its parts")
            return _of_numpy(numpy, value, "numpy")
        if isinstance(value, numpy.generic):
            return _of_numpy(numpy, numpy.asarray(value), "scalar")
        if (jax := _jax()) is not None and isinstance(value, jax.Array):
            return _of_jax(jax, numpy, value)
        if _is_foreign(value):
            return _of_dlpack(numpy, value)
    if type(value) in (bytes, bytearray):
        return _of_bytes(value, type(value).__name__)
    if type(value) is array.array:
        leaf = _of_bytes(value.tobytes(), "array")
        leaf.spelled = value.typecode
        return leaf
    return None


def _of_bytes(value: bytes | bytearray, kind: str) -> Leaf:
    size = len(value)

    def copy(to: int) -> None:
        memory_at(to, size)[:] = value

    return Leaf(kind, kind, "U8", (size,), size, None, value, 0, copy)


def _of_numpy(numpy: Any, value: Any, kind: str) -> Leaf:
    spelled = value.dtype.name
    identity = (kind, value.__array_interface__["data"][0], value.shape, value.strides, spelled)
    if value.dtype.kind in "Mm":
        spelled, value = value.dtype.str, value.view(numpy.int64)
    elif spelled == "complex128":
        value = numpy.ascontiguousarray(value).reshape(-1).view(numpy.float64).reshape(*value.shape, 2)
    dtype = TYPES.get(value.dtype.name)
    if dtype is None:
        raise Unsavable(f"an array of {value.dtype} has no form in a file: turn it into numbers")
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    # `ascontiguousarray` makes one axis of none.
    if not value.flags.c_contiguous:
        value = numpy.ascontiguousarray(value)
    address = value.__array_interface__["data"][0]
    shared = identity if kind == "numpy" and value.nbytes else None
    return Leaf(kind, spelled, dtype, value.shape, value.nbytes, shared, value, address)


_HOST = (1, 3, 11, 13)
"""Devices of DLPack that the host reads: CPU, pinned by CUDA or ROCm, managed by CUDA (`DLDeviceType` in dlpack.h)."""


def _is_foreign(value: Any) -> bool:
    """Whether it is an array of a library that is not known here, and shows its data by DLPack."""
    if isinstance(value, type) or not (hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__")):
        return False
    numpy, torch, jax = _numpy(), _torch(), _jax()
    known = [(numpy, "ndarray"), (numpy, "generic"), (torch, "Tensor"), (jax, "Array")]
    return numpy is not None and not isinstance(value, tuple(getattr(of, name) for of, name in known if of is not None))


def _of_dlpack(numpy: Any, value: Any) -> Leaf:
    what = f"a {type(value).__module__}.{type(value).__qualname__}"
    device = int(value.__dlpack_device__()[0])
    if device not in _HOST:
        raise Unsavable(f"{what} lies on a device (of DLPack's kind {device}): give an array on the CPU")
    try:
        return _of_numpy(numpy, numpy.from_dlpack(value), "numpy")
    except (BufferError, RuntimeError, TypeError) as error:
        raise Unsavable(f"{what} does not show its data by DLPack: {error}") from None


def _of_jax(jax: Any, numpy: Any, value: Any) -> Leaf:
    kind, spelled = "jax", None
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        kind, spelled, value = "key", str(jax.random.key_impl(value)), jax.random.key_data(value)
    if not value.is_fully_addressable:
        raise Unsavable("a JAX array that lies on other hosts too cannot be saved yet: save its addressable shards")
    leaf = _of_numpy(numpy, numpy.asarray(value), kind)
    leaf.spelled = spelled or leaf.spelled
    return leaf


def _of_torch(torch: Any, value: Any) -> Leaf:
    spelled = str(value.dtype).removeprefix("torch.")
    if (sharding := sharding_of(value)) is not None:
        if any(placement.is_partial() for placement in value.placements):
            raise Unsavable(f"a DTensor {sharding} is a sum that is not made yet: redistribute it first")
        leaf = _of_torch(torch, value.detach().to_local())
        leaf.sharding = sharding
        return leaf
    if value.layout is not torch.strided or value.is_quantized:
        raise Unsavable(f"a tensor with the layout {value.layout} ({spelled}) cannot be saved: make it dense")
    if value.device.type == "meta":
        raise Unsavable("a tensor on the device `meta` has no values")
    value = value.detach().resolve_conj().resolve_neg()
    key = ("torch", str(value.device), value.data_ptr(), tuple(value.shape), value.stride(), spelled)
    if spelled == "complex128":
        value = torch.view_as_real(value)
    dtype = TYPES.get(str(value.dtype).removeprefix("torch."))
    if dtype is None:
        raise Unsavable(f"a tensor of {value.dtype} has no form in a file")
    shape, nbytes = tuple(value.shape), value.numel() * value.element_size()
    identity = key if nbytes else None
    if value.device.type == "cpu" and value.is_contiguous():
        return Leaf("torch", spelled, dtype, shape, nbytes, identity, value, value.data_ptr())

    def copy(to: int) -> None:
        torch.frombuffer(memory_at(to, nbytes), dtype=value.dtype).view(shape).copy_(value)

    return Leaf("torch", spelled, dtype, shape, nbytes, identity, value, 0, copy if nbytes else None)


@dataclass
class Room:
    """A new array that a checkpoint is read into."""

    address: int
    nbytes: int
    owner: Any
    finish: Callable[[], Any]
    """Gives the array, when its bytes are there. Each call gives the same."""


ON_PAGES = 1 << 20
"""From so many bytes on, room for an array begins on a page: the device writes right into it."""


def _on_pages(nbytes: int) -> Any:
    """A buffer in memory of its own. Its pages are made when they are read into, by the threads that read."""
    memory = _core.Memory(nbytes, touched=False)
    buffer = memory_at(memory.address, nbytes)
    # As long as a tensor over it is.
    buffer.owner = memory
    return buffer


def room_for(kind: str, spelled: str, dtype: str, shape: list[int]) -> Room:
    """Makes room for an array as it was saved."""
    plain = _PLAIN[dtype]
    if kind == "torch":
        torch = _torch()
        if torch is None:
            raise ImportError("the checkpoint holds tensors of torch: import torch before the state is resumed")
        tensor = torch.empty(shape, dtype=getattr(torch, plain), device="meta")
        nbytes = tensor.numel() * tensor.element_size()
        if nbytes >= ON_PAGES:
            tensor = torch.frombuffer(_on_pages(nbytes), dtype=tensor.dtype).view(shape)
        else:
            tensor = torch.empty(shape, dtype=tensor.dtype)
        whole = torch.view_as_complex(tensor) if spelled == "complex128" else tensor
        return Room(tensor.data_ptr(), tensor.numel() * tensor.element_size(), tensor, lambda: whole)
    if kind in ("bytes", "bytearray", "array"):
        data = bytearray(shape[0])
        address = ctypes.addressof((ctypes.c_ubyte * len(data)).from_buffer(data)) if data else 0
        made: Any = {"bytes": bytes, "bytearray": bytearray, "array": lambda data: array.array(spelled, bytes(data))}
        return Room(address, len(data), data, lambda: made[kind](data))
    numpy = _numpy()
    if numpy is None:
        raise ImportError("the checkpoint holds arrays of numpy: import numpy before the state is resumed")
    try:
        element = numpy.dtype(plain)
    except TypeError:
        ml_dtypes = sys.modules.get("ml_dtypes")
        if ml_dtypes is None:
            raise ImportError(f"the checkpoint holds arrays of {plain}: import ml_dtypes before") from None
        element = numpy.dtype(getattr(ml_dtypes, plain))
    nbytes = math.prod(shape) * element.itemsize
    large = nbytes >= ON_PAGES
    held = numpy.frombuffer(_on_pages(nbytes), element).reshape(shape) if large else numpy.empty(shape, element)

    def finish() -> Any:
        value = held
        if spelled == "complex128":
            value = held.reshape(-1).view(numpy.complex128).reshape(shape[:-1])
        elif spelled.startswith(("<M", "<m")):
            value = held.view(spelled)
        if kind == "scalar":
            return value[()]
        if kind in ("jax", "key"):
            jax = _jax()
            if jax is None:
                raise ImportError("the checkpoint holds arrays of JAX: import jax before the state is resumed")
            value = jax.numpy.array(value)
            return jax.random.wrap_key_data(value, impl=spelled) if kind == "key" else value
        return value

    return Room(held.__array_interface__["data"][0], held.nbytes, held, finish)


def fill(target: Any, value: Any) -> bool:
    """Puts a restored array into one that is there, so that whoever holds that sees it. False when it can't be filled."""
    torch, numpy = _torch(), _numpy()
    if torch is not None and isinstance(target, torch.Tensor) and isinstance(value, torch.Tensor):
        with torch.no_grad():
            target.copy_(value)
        return True
    if numpy is not None and type(target) is numpy.ndarray and type(value) is numpy.ndarray and target.flags.writeable:
        target[...] = value
        return True
    return False


def described(value: Any) -> tuple[str, tuple[int, ...]] | None:
    """Type (with how it lies on several ranks) and shape of an array; `None` for what is none."""
    if isinstance(value, (bytes, bytearray, array.array)):
        return None
    if _is_foreign(value):
        try:
            value = _of_dlpack(_numpy(), value).owner
        except Unsavable:
            return None
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        return None
    dtype, sharding = str(value.dtype).removeprefix("torch."), sharding_of(value)
    return f"{dtype} {sharding}" if sharding else dtype, tuple(value.shape)
