"""For frameworks that own the loop: a callback each, to be given to the framework; it does what a `Guard` does.

None is imported before its adapter is asked for. Options are those of `Guard`.
"""

from __future__ import annotations

import importlib
import logging
import os
import random
import sys
from pathlib import Path
from typing import Any

from ._guard import Guard
from ._ranks import from_torch

log = logging.getLogger("bedplate")


def lightning(dir: str | os.PathLike[str], **options: Any) -> Any:
    """A callback for the `Trainer` of Lightning: `Trainer(callbacks=[bedplate.adapters.lightning("/mnt/ckpt/run-7")])`. The
    next `fit` goes on by itself, without a `ckpt_path`.

    Saved are the module, optimizers, schedulers, loops, callbacks, the datamodule, and what `on_save_checkpoint` of the
    module adds. A step is one of the optimizer. In the middle of an epoch Lightning takes up a dataloader only where that
    has a state (`state_dict` and `load_state_dict`, as torchdata's `StatefulDataLoader`): of another the resumed epoch sees
    the first batches again, and never its last ones. A validation that a notice ends is not made up for, and the next one
    comes when it is due; so a `ReduceLROnPlateau` misses one value.
    """
    base: Any = _framework("lightning.pytorch", "pytorch_lightning").Callback

    class Durable(base):  # type: ignore[misc]
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.ckpt_path is not None:
                raise ValueError(
                    f"fit(ckpt_path={trainer.ckpt_path!r}) and bedplate's callback would both resume: leave ckpt_path out, "
                    "and load weights to begin with into the module"
                )
            same = ["module", "optimizers"] if type(trainer.strategy).__name__ == "DDPStrategy" else []
            state = _lightning_state(trainer, pl_module, self)
            self.guard = Guard(dir, state, **{"replicated": same, **options}).start()

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            # Lightning's own handler would end this rank alone, in the middle of what the others do together.
            trainer._signal_connector.teardown()
            epochs = trainer.fit_loop.epoch_progress.current
            if epochs.processed == epochs.ready:
                # Lightning would take the next epoch for the rest of the one that was saved with its last step.
                trainer.fit_loop.reset_restart_stage()
            self.guard._restore_random()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            # Between two steps of the optimizer gradients are gathered, which nobody saves.
            if trainer.global_step > (self.guard.last_step or 0):
                self.guard.step(trainer.global_step, trainer.callback_metrics if options.get("best") else None)

        def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
            # Of a validation within `fit`.
            if trainer.state.fn == "fit" and not trainer.sanity_checking:
                self.guard.poll()

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self.guard.close()

        # Comes without the one before it where nothing is left to do.
        on_fit_end = on_train_end

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            if hasattr(self, "guard"):
                self.guard.close(exception)

    return Durable()


def _lightning_state(trainer: Any, module: Any, own: Any) -> dict[str, Any]:
    state = {
        "module": module,
        "optimizers": trainer.optimizers,
        "schedulers": [config.scheduler for config in trainer.lr_scheduler_configs],
        "precision": trainer.precision_plugin,
        "loops": trainer.fit_loop,
        "more": _More(module, [callback for callback in trainer.callbacks if callback is not own]),
    }
    return state if trainer.datamodule is None else {**state, "datamodule": trainer.datamodule}


class _More:
    """What callbacks have to save, and what the module adds."""

    def __init__(self, module: Any, callbacks: list[Any]) -> None:
        self._module, self._callbacks = module, callbacks

    def state_dict(self) -> dict[str, Any]:
        module: dict[str, Any] = {}
        self._module.on_save_checkpoint(module)
        states = {callback.state_key: callback.state_dict() for callback in self._callbacks}
        return {"module": module, "callbacks": {key: state for key, state in states.items() if state}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["module"]:
            self._module.on_load_checkpoint(state["module"])
        for callback in self._callbacks:
            if callback.state_key in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][callback.state_key])


def transformers(output_dir: str | os.PathLike[str], **options: Any) -> Any:
    """A callback for the `Trainer` of Hugging Face:

        durable = bedplate.adapters.transformers(arguments.output_dir)
        trainer = Trainer(…, args=arguments, callbacks=[durable])
        trainer.train(resume_from_checkpoint=durable.newest)

    The Trainer writes its checkpoints itself, since it resumes from nothing else: the training waits until each is on the
    device. The guard says when (`every`, beside the Trainer's own `save_steps`), keeps account in `output_dir/bedplate` of
    those that are whole, and ends the process. `newest` is the path of the newest whole one, `None` at the very beginning.
    Set `save_total_limit` to 2 or more: the Trainer removes the one before ahead of a new one being whole. An evaluation
    that was due at the step of the notice is left out. The guard counts steps for itself: after an older checkpoint was
    resumed they are more than the Trainer's.
    """
    base: Any = _framework("transformers").TrainerCallback
    folder = Path(output_dir)

    class Durable(base):  # type: ignore[misc]
        def __init__(self) -> None:
            # By the name of a checkpoint the sizes of its files, when all of them were durable.
            self.whole: dict[str, dict[str, int]] = {}
            # The Trainer has the generators in its checkpoint.
            self.guard = Guard(folder / "bedplate", {"whole": self.whole}, **{"rng": False, **options}).start()
            self.wanted: str | None = None

        @property
        def newest(self) -> str | None:
            for name, sizes in reversed(self.whole.items()):
                if _sizes(folder / name) == sizes:
                    return str(folder / name)
                log.warning("passed over %s: it is not as it was when it was saved", folder / name)
            return None

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.wanted = self.guard._wanted((self.guard.last_step or 0) + 1)
            if self.wanted or state.global_step >= state.max_steps:
                control.should_save = True
            if self.wanted == "stop":
                control.should_evaluate = False

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if from_torch() is not None:
                # Each rank writes a part.
                sys.modules["torch.distributed"].barrier()
            name = f"checkpoint-{state.global_step}"
            for other in list(self.whole):
                if other == name or not (folder / other).exists():
                    del self.whole[other]
            _sync(folder / name)
            _sync(folder, deep=False)
            self.whole[name] = _sizes(folder / name)
            self.guard._save_as(self.wanted or "save")

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.guard.close()

    return Durable()


def _sizes(folder: Path) -> dict[str, int]:
    """Of all files below a folder."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


def _sync(path: Path, deep: bool = True) -> None:
    """Waits until a file, or a folder with all that is in it, is on the device."""
    if deep and path.is_dir():
        for inner in path.iterdir():
            _sync(inner)
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def keras(dir: str | os.PathLike[str], **options: Any) -> Any:
    """A callback for `model.fit` of Keras 3, with torch or JAX: `callbacks=[bedplate.adapters.keras("/mnt/ckpt/run-7")]`.
    The next `fit` goes on by itself; `epochs` stays the same.

    Saved are all variables of the model and its optimizer, and the epoch; a step is a batch. Keras begins an epoch with its
    first batch only: after a notice in the middle of one the weights are those of the notice, and all batches of that epoch
    are seen once more. So that an epoch has the same order whatever came before it, each begins with a seed of its own for
    the global generators. What other callbacks remember (as `ReduceLROnPlateau`) is lost: Keras gives it to nobody.
    """
    framework = _framework("keras")
    base: Any = framework.callbacks.Callback

    class Durable(base):  # type: ignore[misc]
        def on_train_begin(self, logs: Any = None) -> None:
            state = {"variables": _Variables(self), "epoch": 0, "seed": random.randrange(1 << 31)}
            self.guard = Guard(dir, state, **options).start()
            self.model._initial_epoch = self.guard.state["epoch"]

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.guard.state["epoch"] = epoch
            framework.utils.set_random_seed(self.guard.state["seed"] + epoch)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch + 1 == self.params.get("steps"):
                self.guard.state["epoch"] += 1
            self.guard.step((self.guard.last_step or 0) + 1, logs)

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            # Of an evaluation within `fit`.
            if hasattr(self, "guard"):
                self.guard.poll()

        def on_train_end(self, logs: Any = None) -> None:
            self.guard.close()
            self.model._initial_epoch = None
            del self.guard

    return Durable()


class _Variables:
    """All that a model of Keras is made of, its optimizer's part too, in their order: names count on from model to model."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback

    def _all(self) -> list[Any]:
        # With JAX its variables are up to date only when a callback asks for the model.
        model = self._callback.model
        return [*model.variables, *model.optimizer.variables]

    def state_dict(self) -> dict[str, Any]:
        return {str(at): variable.value for at, variable in enumerate(self._all())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        variables = self._all()
        if len(variables) != len(state):
            raise ValueError(f"the model has {len(variables)} variables, and had {len(state)}: give it its old layers")
        for at, variable in enumerate(variables):
            variable.assign(state[str(at)])


def _framework(*names: str) -> Any:
    """The first that is imported already; else the first that can be."""
    for name in names:
        if name in sys.modules:
            return sys.modules[name]
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    return importlib.import_module(names[-1])
