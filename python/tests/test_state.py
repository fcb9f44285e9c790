"""What can be saved comes back as it was, and what cannot is told by its path."""

import array
import collections
import gc
import random
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import bedplate


class Pair(NamedTuple):
    mu: Any
    nu: Any


def save(folder: Path, state: dict, step: int = 1, **options: Any) -> None:
    with bedplate.Guard(folder, state, **options) as guard:
        guard.step(step, options.pop("metrics", None))


def load(folder: Path, state: dict, **options: Any) -> dict:
    guard = bedplate.Guard(folder, state, **options).start()
    guard.close()
    return state


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        if not isinstance(b, torch.Tensor) or a.shape != b.shape or a.dtype != b.dtype:
            return False
        as_bytes = lambda t: t.resolve_conj().contiguous().reshape(-1).view(torch.uint8) if t.numel() else t  # noqa: E731
        return torch.equal(as_bytes(a), as_bytes(b))
    if isinstance(a, (np.ndarray, np.generic)):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


NUMPY = "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64 complex64 complex128".split()
TORCH = [getattr(torch, name) for name in [*NUMPY, "bfloat16", "float8_e4m3fn", "float8_e5m2"]]


def test_every_type_and_form_of_array_comes_back_to_the_last_bit(tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    values = {
        **{f"torch {dtype}": (base + 1).to(dtype) for dtype in TORCH},
        **{f"numpy {dtype}": (np.arange(24).reshape(4, 6) + 1).astype(dtype) for dtype in NUMPY},
        "of no axis": torch.tensor(2.5, dtype=torch.bfloat16),
        "of no axis in numpy": np.array(7),
        "empty": torch.empty(3, 0),
        "empty in numpy": np.empty((0, 2), np.int16),
        "transposed": base.t(),
        "every second": base[:, ::2],
        "a window": base[1:3, 2:4],
        "expanded": torch.ones(1, 3).expand(5, 3),
        "conjugated": torch.tensor([1 + 2j]).conj(),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "backwards": np.arange(6)[::-1],
        "big endian": np.arange(6, dtype=">i4").astype("=i4"),
        "time": np.array(["2026-11-27", "NaT"], "datetime64[s]"),
        "a number of numpy": np.float16(1.5),
        "not a number": np.array([np.nan, np.inf, -0.0]),
        "needs a gradient": torch.ones(2, requires_grad=True).detach(),
    }
    save(tmp_path, {"all": values})
    empty = load(tmp_path, {"all": {}})["all"]
    wrong = [name for name, value in values.items() if not same(value, empty[name])]
    assert not wrong
    assert empty["of no axis in numpy"].shape == ()


def test_plain_values_come_back_as_what_they_were(tmp_path):
    values = {
        "numbers": [1, 2**80, -1.5, float("inf"), True, None, 1j],
        "texts": ["ü", "", "\N{OLD HUNGARIAN CAPITAL LETTER A}"],
        "bytes": b"\x00\xff" * 100,
        "short": b"\x00",
        "tuple": (1, (2, [3])),
        "keys": {0: "int", "0": "text", (1, "a"): "tuple", None: 1, True + 1: 2},
        "ordered": collections.OrderedDict(b=1, a=2),
        "counter": collections.Counter("aab"),
        "deque": collections.deque([1, 2]),
        "set": {3, 1, 2},
        "array": array.array("d", [1.0, 2.0]),
    }
    save(tmp_path, {"all": values})
    found = load(tmp_path, {"all": {}})["all"]
    assert found == values
    assert [type(found[name]) for name in values] == [type(value) for value in values.values()]


def test_arrays_that_somebody_holds_are_filled_where_they_are(tmp_path):
    held, tensor = np.arange(4.0), torch.arange(4.0)
    save(tmp_path, {"arrays": {"a": held, "b": [tensor]}, "optax": (Pair(held * 2, 3),)})
    held[:], tensor[:] = 0, 0
    state = load(tmp_path, {"arrays": {"a": held, "b": [tensor]}, "optax": (Pair(np.zeros(4), 0),)})
    assert held.tolist() == tensor.tolist() == [0, 1, 2, 3]
    assert state["arrays"]["a"] is held
    assert type(state["optax"][0]) is Pair and state["optax"][0].mu.tolist() == [0, 2, 4, 6] and state["optax"][0].nu == 3


def test_tied_weights_are_written_once_and_are_tied_after_a_resume(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(1000, 256)
            self.head = torch.nn.Linear(256, 1000, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    save(tmp_path, {"model": model})
    files = list(tmp_path.glob("step-*/*.safetensors"))
    assert sum(file.stat().st_size for file in files) < 1.5 * model.embed.weight.nbytes
    other = Tied()
    load(tmp_path, {"model": other})
    assert other.head.weight is other.embed.weight and torch.equal(other.embed.weight, model.embed.weight)


def test_generators_go_on_where_they_were(tmp_path):
    def make():
        return {
            "python": random.Random(3),
            "numpy": np.random.default_rng(3),
            "legacy bits": np.random.MT19937(3),
            "torch": torch.Generator().manual_seed(3),
        }

    def draw(of):
        bits = np.random.Generator(of["legacy bits"]).random()
        return [of["python"].random(), of["numpy"].random(), bits, torch.rand(1, generator=of["torch"]).item()]

    def everywhere():
        return [random.random(), np.random.rand(), torch.rand(1).item()]

    ours = make()
    draw(ours)
    save(tmp_path, ours)
    expected = draw(ours), everywhere()
    everywhere()
    assert (draw(load(tmp_path, make())), everywhere()) == expected


@pytest.mark.parametrize(
    ("state", "path", "why"),
    [
        ({"model": {"hook": lambda: 0}}, "state['model']['hook']", "a function"),
        ({"a": [1, {"b": object()}]}, "state['a'][1]['b']", "a builtins.object"),
        ({"a": np.array(["text"])}, "state['a']", "<U4"),
        ({"a": np.ma.array([1])}, "state['a']", "MaskedArray"),
        ({"a": torch.eye(2).to_sparse()}, "state['a']", "make it dense"),
        ({"a": torch.empty(2, device="meta")}, "state['a']", "has no values"),
        ({"a": {b"key": 1}}, "state['a']", "b'key'"),
        ({"a": torch.nn.Linear}, "state['a']", "a function"),
    ],
)
def test_what_cannot_be_saved_is_told_at_the_start_by_its_path(tmp_path, state, path, why):
    with pytest.raises(bedplate.StateError) as error:
        bedplate.Guard(tmp_path, state).start()
    assert path in str(error.value) and why in str(error.value)


def test_a_state_that_holds_itself_is_told_and_does_not_hang(tmp_path):
    loop: dict = {}
    loop["loop"] = loop
    with pytest.raises(bedplate.StateError, match="holds itself"):
        bedplate.Guard(tmp_path, {"a": loop}).start()


def test_a_model_whose_shape_changed_is_told_with_both_shapes(tmp_path):
    save(tmp_path, {"model": torch.nn.Linear(4, 3), "w": np.zeros((2, 3), np.float32)})
    with pytest.raises(bedplate.StateError) as error:
        load(tmp_path, {"model": torch.nn.Linear(5, 3), "w": np.zeros((2, 3), np.float32)})
    assert "state['model']" in str(error.value) and "size mismatch" in str(error.value)
    with pytest.raises(bedplate.StateError) as error:
        load(tmp_path, {"model": torch.nn.Linear(4, 3), "w": np.zeros((2, 4), np.float32)})
    assert "state['w'] is float32 [2, 4] here and float32 [2, 3] there" in str(error.value)


def test_a_name_that_is_new_or_gone_is_told_unless_that_is_wanted(tmp_path):
    save(tmp_path, {"model": 1, "ema": 2})
    with pytest.raises(bedplate.StateError) as error:
        load(tmp_path, {"model": 0, "queue": 0})
    assert "state['queue'] is not in it" in str(error.value) and "state['ema']" in str(error.value)
    assert load(tmp_path, {"model": 0, "queue": 0}, strict=False) == {"model": 1, "queue": 0}


def test_a_loss_that_became_nan_is_never_the_best_and_is_told(tmp_path, caplog):
    with bedplate.Guard(tmp_path, {"a": 1}, keep=1, best=("loss", "min")) as guard:
        for step, loss in enumerate([0.5, float("nan"), torch.tensor(0.7), np.float32("nan")]):
            guard.step(step, {"loss": loss})
            guard.save()
    steps = sorted(int(folder.name.split("-")[1]) for folder in tmp_path.glob("step-*"))
    assert steps == [0, 3], "the best one, and the last"
    assert "NaN, which is never the best" in caplog.text


def test_the_files_are_read_by_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    model = torch.nn.Linear(4, 3)
    save(tmp_path, {"model": model})
    (file,) = (file for file in tmp_path.glob("step-*/*.safetensors") if "weight" in str(safetensors.load_file(file)))
    assert torch.equal(safetensors.load_file(file)["model.weight"], model.weight)


def test_a_flipped_bit_is_passed_over_and_the_run_goes_on_before_it(tmp_path, caplog):
    big = np.zeros(3 << 20, np.uint8)
    with bedplate.Guard(tmp_path, {"big": big}) as guard:
        for step in (1, 2):
            big += 1
            guard.step(step)
            guard.save()
    file = max((tmp_path / sorted(tmp_path.glob("step-*"))[-1].name).glob("*rank-00000.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1000] ^= 4
    file.write_bytes(data)
    other = np.full(3 << 20, 9, np.uint8)
    guard = bedplate.Guard(tmp_path, {"big": other}).start()
    guard.close()
    assert guard.last_step == 1 and (other == 1).all()
    assert "passed over" in caplog.text and "checksum" in caplog.text


def test_bad_options_are_told_before_anything_is_done(tmp_path):
    for options, said in [
        ({"every": "ten minutes"}, "'10min'"),
        ({"every": 0}, "'10min'"),
        ({"exit_code": 0}, "never with 0"),
        ({"keep": 0}, "at least the last one"),
        ({"best": ("loss", "low")}, "'min'"),
        ({"rank": 3}, "both"),
        ({"rank": 3, "world_size": 3}, "no rank 3 of 3"),
    ]:
        with pytest.raises(ValueError) as error:
            bedplate.Guard(tmp_path / "new", {"a": 1}, **options)
        assert said in str(error.value)
    assert not (tmp_path / "new").exists()


def test_a_loop_over_epochs_is_refused_before_a_checkpoint_of_it_loses_half_an_epoch(tmp_path):
    with bedplate.Guard(tmp_path, {"a": 1}) as guard:
        for epoch in guard.resume(range(2)):
            guard.step(2 * epoch)
            with pytest.raises(RuntimeError, match="goes over steps"):
                guard.step(2 * epoch + 1)


def test_another_runs_folder_and_a_grace_that_is_too_short_are_told(tmp_path, monkeypatch, caplog):
    save(tmp_path, {"a": 1}, run="first")
    with pytest.raises(bedplate.OtherRunError, match="first"):
        load(tmp_path, {"a": 1}, run="second")
    monkeypatch.setenv("BEDPLATE_GRACE_SECONDS", "0.000001")
    load(tmp_path, {"a": np.zeros(1 << 20)}, run="first", strict=False)
    assert "raise terminationGracePeriodSeconds" in caplog.text
    fits = bedplate.estimate(tmp_path, {"a": np.zeros(1 << 20)}, grace=600)
    assert fits.fits and fits.state_bytes == 8 << 20 and "8.0 MiB" in str(fits)
    monkeypatch.setenv("BEDPLATE_GRACE_SECONDS", "soon")
    with pytest.raises(ValueError, match="no number of seconds"):
        bedplate.Guard(tmp_path, {"a": 1}, run="first")


def test_values_of_jax_come_back_in_place_of_the_old_ones(tmp_path):
    jax = pytest.importorskip("jax")
    params = {"w": jax.numpy.arange(6.0).reshape(2, 3), "b": jax.numpy.ones(3, "bfloat16"), "key": jax.random.key(7)}
    save(tmp_path, {"params": params})
    zero = {"w": jax.numpy.zeros((2, 3)), "b": jax.numpy.zeros(3, "bfloat16"), "key": jax.random.key(0)}
    found = load(tmp_path, {"params": zero})["params"]
    assert isinstance(found["w"], jax.Array) and found["w"].tolist() == params["w"].tolist()
    assert found["b"].dtype == "bfloat16" and found["b"].tolist() == [1, 1, 1]
    assert jax.random.uniform(found["key"]) == jax.random.uniform(params["key"])


def test_a_save_of_the_step_that_is_being_written_waits_for_that_one(tmp_path):
    with bedplate.Guard(tmp_path / "run", {"a": np.ones(1 << 22)}, every=1) as guard:
        guard.step(1)
        guard.save()
    assert len(list((tmp_path / "run").glob("step-*"))) == 1


def test_a_large_tensor_outlives_the_guard_that_restored_it(tmp_path):
    state = {"a": torch.arange(3 << 18, dtype=torch.float32)}
    save(tmp_path / "run", state)
    # Nothing is there to fill: the tensor that was read is the one of the state.
    restored = load(tmp_path / "run", {"a": None})["a"]
    gc.collect()
    assert torch.equal(restored, state["a"])


class Foreign:
    """An array of a library that is not known, as DLPack shows it."""

    def __init__(self, data: np.ndarray, device: int = 1) -> None:
        self.data, self.device = data, device

    def __dlpack__(self, **how: Any) -> Any:
        return self.data.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0


def test_an_array_that_speaks_dlpack_comes_back_as_one_of_numpy(tmp_path):
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    save(tmp_path, {"foreign": Foreign(data), "within": [Foreign(data[:, ::2])]})
    found = load(tmp_path, {"foreign": Foreign(np.zeros((2, 3), np.float32)), "within": []})
    assert same(found["foreign"], data) and same(found["within"][0], np.ascontiguousarray(data[:, ::2]))
    with pytest.raises(bedplate.StateError, match=r"state\['foreign'\] is float32 \[3, 2\] here and float32 \[2, 3\] there"):
        load(tmp_path, {"foreign": Foreign(np.zeros((3, 2), np.float32)), "within": []})


def test_an_array_that_lies_on_a_device_is_named(tmp_path):
    with pytest.raises(
        bedplate.StateError, match=r"state\['a'\]\['x'\] cannot be saved: a test_state.Foreign lies on a device"
    ):
        save(tmp_path, {"a": {"x": Foreign(np.zeros(3), device=2)}})


class Device(torch.Tensor):
    """A tensor whose device fails when it is read."""

    error: BaseException | None = None

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        if function is torch.Tensor.copy_ and cls.error is not None:
            raise cls.error
        return super().__torch_function__(function, types, arguments, options or {})


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: an illegal memory access"), KeyboardInterrupt("Ctrl-C")])
def test_a_copy_that_breaks_off_tells_why_publishes_nothing_and_the_next_save_is_whole(tmp_path, monkeypatch, error):
    before = threading.active_count()
    # The first is written while the second is copied.
    state = {"weight": torch.zeros(8 << 20), "on the device": torch.zeros(1000, 2000).as_subclass(Device).t()}
    with bedplate.Guard(tmp_path, state, every=1, rng=False) as guard:
        guard.step(1)
        guard.save()
        state["weight"] += 1
        monkeypatch.setattr(Device, "error", error)
        with pytest.raises(type(error), match=str(error)):
            guard.step(2)
        assert threading.active_count() == before
        assert [path.name for path in tmp_path.glob("step-*")] == ["step-000000000001-g00000001"]
        monkeypatch.setattr(Device, "error", None)
        guard.step(3)
    restored = load(tmp_path, {name: torch.empty_like(tensor) for name, tensor in state.items()}, rng=False)
    assert all(torch.equal(restored[name], tensor) for name, tensor in state.items())


def test_a_state_that_can_no_longer_be_saved_leaves_the_collector_on(tmp_path):
    state = {"weight": np.zeros(4), "note": "a text"}
    with bedplate.Guard(tmp_path, state, every=1, rng=False) as guard:
        guard.step(1)
        guard.save()
        assert gc.isenabled()
        state["note"] = open
        with pytest.raises(bedplate.StateError, match="note"):
            guard.step(2)
        assert gc.isenabled()
        state["note"] = "a text again"
    assert load(tmp_path, state)["note"] == "a text again" and gc.isenabled()
