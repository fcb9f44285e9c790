"""Several ranks: all stop at one step, and one that dies takes nothing with it."""

import re
import signal
import socket

import pytest

SCRIPT = """
    import os, sys, time
    import numpy as np
    import bedplate
    rank = int(os.environ["RANK"])
    state = {"w": np.zeros(1000) + rank}
    every = sys.argv[2] if len(sys.argv) > 2 else None
    every = int(every) if every and every.isdigit() else every
    with bedplate.Guard(sys.argv[1], state, every=every, rank_deadline=float(os.environ.get("DEADLINE", 15))) as guard:
        print("started after", guard.last_step, state["w"][0], flush=True)
        for step in guard.resume(range(100000)):
            # Ranks of different speed, as they are where nothing holds them in step.
            time.sleep(0.01 + 0.01 * rank)
            state["w"] += 10
            print("step", step, flush=True)
            guard.step(step)
"""


def start(job, *arguments, size=3, **environment):
    return [job(*arguments, script=SCRIPT, RANK=str(rank), WORLD_SIZE=str(size), **environment) for rank in range(size)]


def test_one_rank_is_told_to_end_and_all_stop_at_one_step(job):
    ranks = start(job)
    ranks[2].until("step 5")
    ranks[2].send(signal.SIGTERM)
    assert [rank.ended() for rank in ranks] == [143] * 3, ranks[0].text()
    stopped = {rank.said("step ")[-1] for rank in ranks}
    assert len(stopped) == 1, stopped
    (last,) = (int(line.split()[1]) for line in stopped)
    again = start(job)
    for number, rank in enumerate(again):
        rank.until(f"started after {last} {float(number + 10 * (last + 1))}")
    # All are told at once, as a drained node does.
    for rank in again:
        rank.send(signal.SIGTERM)
    assert [rank.ended() for rank in again] == [143] * 3
    assert len({tuple(rank.said("step ")[-1:]) for rank in again}) == 1


def test_ranks_save_the_same_steps_whether_by_time_or_by_number(job):
    for every in ("0.3s", "7"):
        ranks = start(job, every, size=2)
        for rank in ranks:
            rank.until("saved step")
            rank.until("step 40")
        saved = [re.findall(r"saved step (\d+)", rank.text()) for rank in ranks]
        common = min(map(len, saved))
        assert common and saved[0][:common] == saved[1][:common]
        ranks[0].send(signal.SIGTERM)
        assert [rank.ended() for rank in ranks] == [143] * 2


def test_a_rank_that_dies_leaves_the_checkpoint_before_whole_and_the_others_do_not_hang(job):
    ranks = start(job, "5", DEADLINE="1")
    ranks[0].until("saved step")
    ranks[1].send(signal.SIGKILL)
    ranks[1].ended()
    for rank in (ranks[0], ranks[2]):
        rank.send(signal.SIGTERM)
    assert [ranks[0].ended(), ranks[2].ended()] == [143, 143]
    assert "for rank 1" in ranks[0].text() or "rank 1 did not save" in ranks[0].text(), ranks[0].text()
    again = start(job, size=3)
    # The lines of several threads may share one of the log.
    after = [re.findall(r"started after (\S+) ", rank.until("\nstep ").text()) for rank in again]
    assert after[0] != ["None"] and after == [after[0]] * 3


def test_another_number_of_ranks_is_told_and_loads_nothing(job):
    ranks = start(job, "5", size=2)
    ranks[0].until("saved step").send(signal.SIGTERM)
    assert [rank.ended() for rank in ranks] == [143] * 2
    (alone,) = start(job, size=1)
    assert alone.ended() == 1
    assert "was saved by 2 ranks, and 1 would resume it" in alone.text()


TORCH = """
    import os, sys, time
    import torch
    import torch.distributed as dist
    import bedplate
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    state = {"w": torch.zeros(1000) + rank}
    together = "together" in sys.argv
    with bedplate.Guard(sys.argv[1], state, every=5, rank_deadline=2) as guard:
        print("started after", guard.last_step, float(state["w"][0]), flush=True)
        for step in guard.resume(range(100000)):
            time.sleep(0.02)
            one = torch.ones(1)
            if together:
                dist.all_reduce(one)
            state["w"] += one
            print("step", step, flush=True)
            guard.step(step)
"""


def gloo(job, *arguments, size=2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    return [job(*arguments, script=TORCH, RANK=str(rank), **where) for rank in range(size)]


def test_ranks_of_torch_agree_through_its_store_and_leave_no_file_for_that(job, tmp_path):
    ranks = gloo(job, "together")
    ranks[1].until("saved step").send(signal.SIGTERM)
    assert [rank.ended() for rank in ranks] == [143] * 2, ranks[0].text()
    stopped = {rank.said("step ")[-1] for rank in ranks}
    assert len(stopped) == 1, stopped
    assert not (tmp_path / "run" / "ranks").exists()
    (last,) = (int(line.split()[1]) for line in stopped)
    again = gloo(job, "together")
    for number, rank in enumerate(again):
        # Each step adds what two ranks have.
        rank.until(f"started after {last} {float(number + 2 * (last + 1))}")
        rank.send(signal.SIGTERM)
    assert [rank.ended() for rank in again] == [143] * 2


@pytest.mark.parametrize("dead", [0, 1], ids=["the-rank-that-has-the-store", "another"])
def test_a_rank_of_torch_that_dies_leaves_the_checkpoint_before_whole(job, dead):
    ranks = gloo(job)
    for rank in ranks:
        rank.until("saved step")
    ranks[dead].send(signal.SIGKILL).ended()
    left = ranks[1 - dead]
    left.send(signal.SIGTERM)
    assert left.ended() == 143, left.text()
    assert "the checkpoint before it stands" in left.text() or "did not save its part" in left.text(), left.text()
    again = gloo(job)
    after = [re.findall(r"started after (\S+) ", rank.until("\nstep ").text()) for rank in again]
    assert after[0] != ["None"] and after == [after[0]] * 2


JAX = """
    import os, sys, time
    import jax
    jax.distributed.initialize(os.environ["COORDINATOR"], int(os.environ["PROCESSES"]), int(os.environ["PROCESS"]))
    import jax.numpy as jnp
    import bedplate
    state = {"w": jnp.zeros(1000) + jax.process_index()}
    with bedplate.Guard(sys.argv[1], state, every=5, rank_deadline=5) as guard:
        print("started after", guard.last_step, float(guard.state["w"][0]), flush=True)
        for step in guard.resume(range(100000)):
            time.sleep(0.02)
            guard.state["w"] = guard.state["w"] + 10
            print("step", step, flush=True)
            guard.step(step)
"""


def processes(job, size=2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"COORDINATOR": f"127.0.0.1:{free.getsockname()[1]}", "PROCESSES": str(size), "JAX_PLATFORMS": "cpu"}
    return [job(script=JAX, PROCESS=str(process), **where) for process in range(size)]


def test_processes_of_jax_agree_through_its_coordination_service_and_leave_no_file_for_that(job, tmp_path):
    ranks = processes(job)
    ranks[1].until("saved step").send(signal.SIGTERM)
    assert [rank.ended() for rank in ranks] == [143] * 2, ranks[0].text() + ranks[1].text()
    stopped = {rank.said("step ")[-1] for rank in ranks}
    assert len(stopped) == 1, stopped
    assert not (tmp_path / "run" / "ranks").exists()
    (last,) = (int(line.split()[1]) for line in stopped)
    again = processes(job)
    for number, rank in enumerate(again):
        rank.until(f"started after {last} {float(number + 10 * (last + 1))}")
        rank.send(signal.SIGTERM)
    assert [rank.ended() for rank in again] == [143] * 2


def test_ranks_that_have_not_found_together_are_told_so(job):
    (alone,) = [job("", script=SCRIPT.replace("every=every", "ranks='torch'"), RANK="0", WORLD_SIZE="2")]
    assert alone.ended() == 1
    assert "ranks='torch' for rank 0 of 2: call init_process_group() first" in alone.text()
    (alone,) = [job("", script=SCRIPT.replace("every=every", "ranks='jax'"), RANK="0", WORLD_SIZE="2")]
    assert alone.ended() == 1
    assert "ranks='jax' for rank 0 of 2: call jax.distributed.initialize() first" in alone.text()
