"""Several ranks: all stop at one step, and one that dies takes nothing with it."""

import os
import re
import signal
import socket
import sys
import textwrap

import numpy as np
import pytest

SCRIPT = """
    import os, sys, time
    import numpy as np
    import bedplate
    rank = int(os.environ["RANK"])
    state = {"w": np.zeros(1000) + rank}
    every = sys.argv[2] if len(sys.argv) > 2 else None
    every = int(every) if every and every.isdigit() else every
    with bedplate.Guard(sys.argv[1], state, every=every, rank_deadline=float(os.environ.get("DEADLINE", 60))) as guard:
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
    with bedplate.Guard(sys.argv[1], state, every=5, rank_deadline=float(os.environ.get("DEADLINE", 60))) as guard:
        print("started after", guard.last_step, float(state["w"][0]), "in process", os.getpid(), flush=True)
        for step in guard.resume(range(100000)):
            time.sleep(0.02)
            one = torch.ones(1)
            if together:
                dist.all_reduce(one)
            state["w"] += one
            print("step", step, flush=True)
            guard.step(step)
"""


def gloo(job, *arguments, size=2, script=TORCH, **more):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    return [job(*arguments, script=script, RANK=str(rank), **where, **more) for rank in range(size)]


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
    ranks = gloo(job, DEADLINE="2")
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
    with bedplate.Guard(sys.argv[1], state, every=5, rank_deadline=60) as guard:
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


FSDP = """
    import os, sys, time
    import torch
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    import bedplate
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3))
    mesh = dist.init_device_mesh("cpu", (1, size), mesh_dim_names=("copies", "parts")) if "hybrid" in sys.argv else None
    if "ddp" in sys.argv:
        model = torch.nn.parallel.DistributedDataParallel(model)
    elif "whole" not in sys.argv:
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    state = {"model": model, "optimizer": optimizer}
    last = int(sys.argv[2])
    replicated = state if "alike" in sys.argv else ()
    with bedplate.Guard(sys.argv[1], state, replicated=replicated, every=None, rank_deadline=60) as guard:
        print("started after", guard.last_step, flush=True)
        for step in guard.resume(range(10)):
            seed = 10 * step if "alike" in sys.argv else 10 * step + rank
            x = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
            loss = model(x).pow(2).sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            print("step", step, float(loss.detach()).hex(), flush=True)
            if step == last:
                guard.stop()
            guard.step(step)
    print("finished", [type(value).__name__ for value in model.state_dict().values()][:1], flush=True)
"""


@pytest.mark.parametrize("size", [1, 2])
def test_what_fsdp_has_sharded_is_saved_by_its_ranks_and_goes_on_to_the_same_bits(job, tmp_path, size):
    whole = gloo(job, "-1", size=size, script=FSDP, folder=tmp_path / "whole")
    ended = gloo(job, "4", size=size, script=FSDP)
    assert [rank.ended() for rank in whole + ended] == [0] * size + [143] * size, ended[0].text()
    again = gloo(job, "-1", size=size, script=FSDP)
    assert [rank.ended() for rank in again] == [0] * size, again[0].text()
    for one, first, second in zip(whole, ended, again, strict=True):
        assert len(one.said("step ")) == 10
        assert first.said("step ") + second.said("step ") == one.said("step ")
        assert second.said("finished") == ["finished ['DTensor']"]


def test_a_state_that_is_sharded_otherwise_is_told_so(job):
    ended = gloo(job, "4", script=FSDP)
    assert [rank.ended() for rank in ended] == [143] * 2, ended[0].text()
    other = gloo(job, "-1", "hybrid", script=FSDP)
    # Who comes to it second may be ended by gloo, when the first is gone.
    assert 0 not in [rank.ended() for rank in other], other[0].text()
    said = "".join(rank.text() for rank in other)
    assert "it has tensors as Shard(dim=0) on the ranks [0, 1], and here nothing lies so" in said
    (alone,) = gloo(job, "-1", size=1, script=FSDP)
    assert alone.ended() == 1
    assert "was saved by 2 ranks, and 1 would resume it" in alone.text()
    assert "its own state['model'] and state['optimizer']" in alone.text()


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_other_numbers_of_ranks_go_on_to_the_same_bits(job, tmp_path, how):
    """Half of the machines were reclaimed, and the job came back with what was left."""
    # All ranks see the same data: then the mean of their gradients has the same bits for 1, 2 and 4.
    whole = gloo(job, "-1", "alike", how, script=FSDP, folder=tmp_path / "whole")
    assert [rank.ended() for rank in whole] == [0] * 2, whole[0].text()
    steps = []
    for size, last in ((2, 2), (4, 5), (1, 7), (2, -1)):
        ranks = gloo(job, str(last), "alike", how, size=size, script=FSDP)
        assert [rank.ended() for rank in ranks] == [0 if last < 0 else 143] * size, "".join(rank.text() for rank in ranks)
        assert len({tuple(rank.said("step ")) for rank in ranks}) == 1
        steps += ranks[0].said("step ")
    assert steps == whole[0].said("step ")


def test_a_model_that_was_sharded_is_whole_where_nothing_is(job):
    ended = gloo(job, "5", "alike", script=FSDP)
    assert [rank.ended() for rank in ended] == [143] * 2, ended[0].text()
    (alone,) = gloo(job, "-1", "alike", "whole", size=1, script=FSDP)
    assert alone.ended() == 0, alone.text()
    assert alone.said("finished") == ["finished ['Tensor']"]


REPLICATED = """
    import os, sys
    import numpy as np
    import bedplate
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    other = int(os.environ.get("OTHER", 0))
    w = [np.full((512, 1024), float(at)) for at in range(4)] + [np.full(4 + other * rank, 4.0)]
    state = {"w": w, "mine": np.full(3, float(rank))}
    with bedplate.Guard(sys.argv[1], state, replicated=["w"], every=None) as guard:
        print("started after", guard.last_step, [float(one.max()) for one in state["w"]], state["mine"][0], flush=True)
        guard.step((guard.last_step or 0) + 1)
"""


def replicated(job, size=3, **environment):
    return [job(script=REPLICATED, RANK=str(rank), WORLD_SIZE=str(size), **environment) for rank in range(size)]


def test_what_is_the_same_on_all_ranks_is_written_once(job, tmp_path):
    """Eight processes of DDP wrote eight copies of the model, and the grace was over after the third."""
    ranks = replicated(job)
    assert [rank.ended() for rank in ranks] == [0] * 3, ranks[0].text()
    written = [sum(file.stat().st_size for file in tmp_path.glob(f"run/step-*/*rank-0000{rank}*")) for rank in range(3)]
    assert 16 << 20 <= sum(written) < 17 << 20, written
    assert all(size > 4 << 20 for size in written), "each rank writes some of it"
    again = replicated(job)
    assert [rank.ended() for rank in again] == [0] * 3, again[0].text()
    for number, rank in enumerate(again):
        assert rank.said("started after") == [f"started after 1 [0.0, 1.0, 2.0, 3.0, 4.0] {float(number)}"]
    other = replicated(job, size=2)
    assert [rank.ended() for rank in other] == [1] * 2
    assert "was saved by 3 ranks, and 2 would resume it" in other[0].text()
    assert "its own state['mine']:" in other[0].text()


def test_a_generator_that_all_ranks_have_alike_goes_on_with_other_numbers_of_ranks(job):
    script = """
        import os, sys
        import numpy as np
        import bedplate
        rng = np.random.default_rng(7)
        with bedplate.Guard(sys.argv[1], {"rng": rng}, replicated=["rng"], every=None) as guard:
            print("drew", rng.integers(1 << 40), flush=True)
            guard.step((guard.last_step or 0) + 1)
    """
    drew = []
    for size in (2, 1):
        ranks = [job(script=script, RANK=str(rank), WORLD_SIZE=str(size)) for rank in range(size)]
        assert [rank.ended() for rank in ranks] == [0] * size, ranks[0].text()
        drew += ranks[0].said("drew")
    rng = np.random.default_rng(7)
    assert drew == [f"drew {rng.integers(1 << 40)}" for _ in range(2)]


def test_what_is_called_the_same_and_is_not_is_told_and_not_published(job, tmp_path):
    ranks = replicated(job, OTHER="1")
    assert 0 not in [rank.ended() for rank in ranks]
    assert any("do not have alike what all ranks share" in rank.text() for rank in ranks), ranks[0].text()
    assert not list(tmp_path.glob("run/step-*-g????????/manifest.json"))


def elastic(job, tmp_path):
    """Two ranks that torchrun starts, and starts anew when one dies."""
    worker = tmp_path / "worker.py"
    # Both write to one log: each line at once.
    worker.write_text(
        textwrap.dedent("""
            def print(*words, flush):
                start = f"start {os.environ['TORCHELASTIC_RESTART_COUNT']} rank {rank}:"
                os.write(1, (" ".join(map(str, [start, *words])) + "\\n").encode())
        """)
        + textwrap.dedent(TORCH)
    )
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2", str(worker)]
    run = f"import os, sys; os.execv({sys.executable!r}, [{sys.executable!r}, *{command!r}, *sys.argv[1:]])"
    # Otherwise the store of the start before is used again, and a rank that is quick connects to where the dead one was.
    return job("together", script=run, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")


def test_torchrun_starts_all_ranks_anew_where_one_was_killed_and_they_go_on_after_the_newest_checkpoint(job, tmp_path):
    agent = elastic(job, tmp_path).until("saved step").until("rank 1: step 12\n")
    os.kill(int(re.search(r"rank 1: started .* process (\d+)", agent.text())[1]), signal.SIGKILL)
    for rank in range(2):
        agent.until(f"start 1 rank {rank}: step ")
    again = re.findall(r"start 1 rank (\d): started after (\d+) (\S+)", agent.text())
    (last,) = {int(last) for _, last, _ in again}
    # Each step adds what two ranks have.
    assert {(int(rank), float(w) - 2 * (last + 1)) for rank, _, w in again} == {(0, 0.0), (1, 1.0)}
    # torchrun hands its notice on to all ranks, and waits for them.
    agent.send(signal.SIGTERM).ended()
    stopped = {re.findall(rf"start 1 rank {rank}: step (\d+)", agent.text())[-1] for rank in range(2)}
    assert len(stopped) == 1, agent.text()
    elastic(job, tmp_path).until(f"started after {stopped.pop()} ").send(signal.SIGTERM).ended()
