"""Tensors of torch that lie on several ranks (`DTensor`, as FSDP2 and tensor parallelism make them): each rank saves the
part that it has. Where all ranks share them, a resume may cut them otherwise, for more or fewer ranks."""

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

    def here(self, known: Iterable[Sharding], other_ranks: bool) -> Sharding:
        """How such a tensor lies here, also on other ranks than it did. What is there already tells mesh and placements: a
        mesh cannot be made, since all ranks would have to make it at once. Raises `ValueError` where nothing lies so."""
        alike = [one for one in known if (one.device, one.placements) == (self.device, self.placements)]
        for one in alike:
            if one.ranks == self.ranks:
                return one
        if other_ranks and alike and all(one.ranks == alike[0].ranks for one in alike):
            return alike[0]
        raise ValueError(
            f"it has tensors {self}, and here nothing lies so: shard the state as it was, before the guard is made"
        )

    def part(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], bool] | None:
        """What this rank has of a whole of this shape that lies so: its shape, where it begins, and whether no rank before
        this one has the same. `None` where that is no box. Of a mesh's dimensions the first cuts first, into pieces as
        `torch.chunk` makes them."""
        mesh = self.of.device_mesh
        coordinate = mesh.get_coordinate()
        if coordinate is None:
            return None
        sides, offset, is_first = list(shape), [0] * len(shape), True
        for at, placement, ranks in zip(coordinate, self.of.placements, mesh.shape, strict=True):
            if placement.is_replicate():
                is_first = is_first and at == 0
            elif type(placement).__name__ == "Shard":
                side = sides[placement.dim]
                most = -(-side // ranks)
                begin = min(at * most, side)
                sides[placement.dim] = min(most, side - begin)
                offset[placement.dim] += begin
            else:
                # Strided, as FSDP over tensor parallelism has it.
                return None
        return tuple(sides), tuple(offset), is_first

    def whole(self, part: Any, here: Sharding) -> Any:
        """A tensor of which this rank has a part, and which lies as those do `here`."""
        make, shape = type(here.of).from_local, sys.modules["torch"].Size(self.shape)
        return make(part, here.of.device_mesh, here.of.placements, run_check=False, shape=shape, stride=self.stride)


def sharding_of(value: Any) -> Sharding | None:
    """`None` for what is whole."""
    kind = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    if kind is None or not isinstance(value, kind):
        return None
    mesh = value.device_mesh
    placements = tuple(map(repr, value.placements))
    return Sharding(mesh.device_type, mesh.mesh.tolist(), placements, tuple(value.shape), tuple(value.stride()), value)
