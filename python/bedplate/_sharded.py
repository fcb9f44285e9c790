"""Tensors of torch that lie on several ranks (`DTensor`, as FSDP2 and tensor parallelism make them): each rank saves the
part that it has, and gets that back into a tensor on the same mesh."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sharding:
    """How a tensor lies on ranks."""

    device: str
    """The kind of device."""
    ranks: Any
    """The mesh: lists of ranks, one in another for each dimension."""
    placements: tuple[str, ...]
    """For each dimension of the mesh, as torch writes it: `Shard(dim=0)`, `Replicate()`."""
    shape: tuple[int, ...]
    """Of the whole tensor."""
    stride: tuple[int, ...]
    of: Any = field(default=None, compare=False, repr=False)
    """A tensor that lies so."""

    def encode(self) -> dict[str, Any]:
        lies = {"device": self.device, "ranks": self.ranks, "placements": list(self.placements)}
        return {**lies, "shape": list(self.shape), "stride": list(self.stride)}

    @classmethod
    def decode(cls, node: dict[str, Any]) -> Sharding:
        lists = (tuple(node[name]) for name in ("placements", "shape", "stride"))
        return cls(node["device"], node["ranks"], *lists)

    def __str__(self) -> str:
        return f"as {', '.join(self.placements)} on the ranks {self.ranks}"

    def whole(self, part: Any, known: Iterable[Sharding]) -> Any:
        """A tensor of which this rank has a part. What there is on the mesh already tells mesh and placements: a mesh cannot
        be made here, since all ranks would have to make it at once. Raises `ValueError` where there is nothing."""
        for other in known:
            if (other.device, other.ranks, other.placements) == (self.device, self.ranks, self.placements):
                make, shape = type(other.of).from_local, sys.modules["torch"].Size(self.shape)
                return make(
                    part, other.of.device_mesh, other.of.placements, run_check=False, shape=shape, stride=self.stride
                )
        raise ValueError(
            f"it has tensors {self}, and here nothing lies so: shard the state as it was, before the guard is made"
        )


def sharding_of(value: Any) -> Sharding | None:
    """`None` for what is whole."""
    kind = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    if kind is None or not isinstance(value, kind):
        return None
    mesh = value.device_mesh
    placements = tuple(map(repr, value.placements))
    return Sharding(mesh.device_type, mesh.mesh.tolist(), placements, tuple(value.shape), tuple(value.stride()), value)
