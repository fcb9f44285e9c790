"""Training that survives its termination.

import bedplate
with bedplate.Guard("/mnt/ckpt/run-7", state={"model": model, "optimizer": optimizer}, every="10min") as guard:
    for step in guard.resume(range(total)):
        train(step)
        guard.step(step)
"""

from . import adapters
from ._core import CheckpointError, DamagedError, FencedError, NoSpaceError, OtherRunError, __version__
from ._guard import Estimate, Guard, Terminated, estimate
from ._ranks import RankLost
from ._signals import listen
from ._tree import StateError

__all__ = [
    "CheckpointError",
    "DamagedError",
    "Estimate",
    "FencedError",
    "Guard",
    "NoSpaceError",
    "OtherRunError",
    "RankLost",
    "StateError",
    "Terminated",
    "__version__",
    "adapters",
    "estimate",
    "listen",
]
