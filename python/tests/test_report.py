"""The cluster is told of checkpoints, and training never waits for it. That a real API server takes them is tested on a node
(xtask/tests/training.rs)."""

import base64
import json
import socket
import time

import pytest

import bedplate
from bedplate._report import Reporter, pods

CLAIMS = {"kubernetes.io": {"namespace": "research", "pod": {"name": "llama-0", "uid": "1a2b"}}}


def account(folder, claims=CLAIMS):
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    (folder / "token").write_text(f"header.{payload}.signature\n")
    (folder / "namespace").write_text("research")
    (folder / "ca.crt").write_text("")
    return folder


def test_outside_of_a_pod_and_without_its_credentials_nobody_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("bedplate._report.ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert Reporter.of_this_pod() is None, "no credentials"
    account(tmp_path)
    assert Reporter.of_this_pod() is not None
    # A token of old, or of somebody who is no pod.
    account(tmp_path, {"sub": "somebody"})
    assert Reporter.of_this_pod() is None
    (tmp_path / "token").write_text("no token")
    assert Reporter.of_this_pod() is None
    account(tmp_path)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert Reporter.of_this_pod() is None, "no cluster"


def test_an_api_server_that_never_answers_costs_a_training_nothing(tmp_path, monkeypatch):
    # The kernel takes connections, and nobody answers.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(silent.getsockname()[1]))
        (tmp_path / "account").mkdir()
        monkeypatch.setattr("bedplate._report.ACCOUNT", account(tmp_path / "account"))
        begun = time.monotonic()
        state = {"x": 1}
        with bedplate.Guard(tmp_path / "run", state, every=1) as guard:
            for step in guard.resume(range(20)):
                guard.step(step)
        assert time.monotonic() - begun < 30, "a second at the end, and not 20 times the patience of a request"
    with bedplate.Guard(tmp_path / "run", state) as guard:
        assert guard.last_step == 19


@pytest.mark.parametrize(("local", "world", "expected"), [(None, 4, 4), ("8", 32, 4), ("4", 2, 1), ("many", 2, 2)])
def test_ranks_of_one_pod_are_counted_once(monkeypatch, local, world, expected):
    for name in ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"):
        monkeypatch.delenv(name, raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert pods(world) == expected
