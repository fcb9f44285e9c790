"""What ends a training, and what it costs."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest


def test_a_run_that_was_ended_three_times_has_the_losses_of_one_that_never_was(job, tmp_path):
    whole = job("--steps", "20", folder=tmp_path / "whole")
    assert whole.ended() == 0, whole.text()
    losses = []
    for _ in range(3):
        one = job("--steps", "20", "--slow", "0.1")
        one.until(f"in step {len(losses) + 4}").send(signal.SIGTERM)
        assert one.ended() == 143, one.text()
        losses += one.said("step ")
    last = job("--steps", "20")
    assert last.ended() == 0, last.text()
    losses += last.said("step ")
    assert losses == whole.said("step "), "a step was lost, done twice, or came out otherwise"


def test_a_kill_in_the_middle_of_a_save_costs_the_steps_since_the_save_before(job, tmp_path):
    steps = []
    for wait in (0.0, 0.03, 0.1, 0.2):
        one = job("--every", "1", "--ballast", "128", "--steps", "100000", "--slow", "0.05", "--keep", "2")
        one.until("saved step")
        # Also between two saves: wherever it falls, what was published is whole.
        time.sleep(wait)
        one.send(signal.SIGKILL)
        one.ended()
        published = int(one.said("bedplate: saved step")[-1].split()[3].rstrip(":"))
        again = job("--steps", "0", "--ballast", "128").until("finished")
        assert again.ended() == 0
        steps.append(int(again.said("started after")[0].split()[2]))
        assert steps[-1] >= published, again.text()
        assert "passed over" not in again.text()
    assert steps == sorted(set(steps))


def test_a_signal_in_an_evaluation_does_not_wait_for_its_end(job):
    one = job("--evaluate-at", "3").until("evaluates")
    one.send(signal.SIGTERM)
    assert one.ended(20) == 143, one.text()
    again = job("--steps", "4")
    assert again.ended() == 0
    assert again.said("started after 3"), again.text()


def test_a_second_signal_does_not_break_off_the_last_save(job):
    one = job("--ballast", "600", "--slow", "0.05", "--steps", "100000").until("step 2")
    one.send(signal.SIGTERM).until("saving step")
    for _ in range(5):
        one.send(signal.SIGTERM)
        time.sleep(0.02)
    assert one.ended() == 143, one.text()
    assert "is durable" in one.text()
    assert "Traceback" not in one.text()


def test_a_signal_while_a_save_is_being_written_saves_the_step_that_it_comes_in_too(job):
    one = job("--every", "3", "--ballast", "300", "--slow", "0.02", "--steps", "100000").until("in step 4")
    one.send(signal.SIGTERM)
    assert one.ended() == 143, one.text()
    last = one.said("step ")[-1].split()[1]
    again = job("--steps", "0", "--ballast", "300")
    assert again.ended() == 0, again.text()
    assert again.said(f"started after {last}"), again.text()


def test_old_checkpoints_are_left_to_the_next_run_when_the_process_has_to_end(job, tmp_path):
    """The state was durable, and the grace was over while the one before it was removed: 137 instead of 143."""
    arguments = ("--every", "4", "--keep", "1")
    one = job(*arguments, "--slow", "0.3", "--steps", "100000").until("in step 6")
    assert one.send(signal.SIGTERM).ended() == 143, one.text()
    assert len(list(tmp_path.glob("run/step-*"))) == 2, one.text()
    again = job(*arguments, "--steps", "20")
    assert again.ended() == 0, again.text()
    assert len(list(tmp_path.glob("run/step-*"))) == 1, again.text()


def test_an_operator_that_takes_small_codes_for_a_failure_can_be_told_another(job):
    one = job("--exit-code", "130", "--slow", "0.05", "--steps", "100000").until("in step 2")
    assert one.send(signal.SIGTERM).ended() == 130, one.text()


def test_a_notice_to_the_whole_group_kills_dataloader_workers_and_not_the_save(job):
    """`tini -g`, Ctrl-C's cousin, and some launchers signal everybody: torch then throws into the middle of a step."""
    for wait in (0.0, 0.05, 0.11):
        one = job("--workers", "2", "--slow", "0.1", "--steps", "100000")
        one.until("in step 3")
        time.sleep(wait)
        one.send(signal.SIGTERM, group=True)
        assert one.ended() == 143, one.text()
        assert "is durable" in one.text()


def test_a_batch_that_went_with_its_worker_costs_no_save(job):
    """The file descriptor of a batch was asked for when its worker was gone: an EOFError, and the last steps were lost."""
    one = job(
        script="""
        import os, signal, sys
        import torch
        import bedplate

        class Data(torch.utils.data.Dataset):
            def __len__(self):
                return 8

            def __getitem__(self, index):
                if index == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                    raise EOFError
                return torch.zeros(1)

        with bedplate.Guard(sys.argv[1], {"a": 1}) as guard:
            batches = iter(torch.utils.data.DataLoader(Data(), batch_size=1))
            for step in guard.resume(range(8)):
                next(batches)
                guard.step(step)
        """
    )
    assert one.ended() == 143, one.text()
    assert "saving step 1" in one.text() and "is durable" in one.text()


def test_a_worker_that_is_ended_alone_ends_and_does_not_save(job):
    one = job(
        script="""
        import multiprocessing, os, signal, sys, time
        import bedplate

        def work():
            print("child", os.getpid(), flush=True)
            time.sleep(60)

        with bedplate.Guard(sys.argv[1], {"a": 1}) as guard:
            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            time.sleep(0.5)
            child.terminate()
            child.join(10)
            print("child ended with", child.exitcode, flush=True)
            guard.step(1)
            if os.fork() == 0:
                guard.step(2)  # a child that runs its parent's code
                guard.close()
                os._exit(0)
            os.wait()
        print("finished", guard.last_step)
        """
    )
    assert one.ended() == 0, one.text()
    assert f"child ended with -{signal.SIGTERM}" in one.text()
    assert one.text().count("saved step") == 1, one.text()


def test_a_job_that_finishes_though_it_was_told_to_end_is_finished(job):
    one = job("--steps", "4", "--slow", "0.3").until("in step 3")
    one.send(signal.SIGTERM)
    # The last step was completed under the notice: it is saved, and the next start has nothing left to do.
    assert one.ended() == 143
    again = job("--steps", "4")
    assert again.ended() == 0
    assert "finished" in again.text() and not again.said("step ")


def test_leaving_the_loop_early_under_a_notice_is_no_success(job):
    one = job(
        script="""
        import os, signal, sys
        import bedplate
        with bedplate.Guard(sys.argv[1], {"a": 1}) as guard:
            for step in guard.resume(range(10)):
                guard.step(step)
                os.kill(os.getpid(), signal.SIGTERM)
                if guard.terminating:
                    break
        """
    )
    assert one.ended() == 143, one.text()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small filesystem wants root")
def test_a_full_disk_costs_a_save_and_not_the_training(job, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", small], check=True)
    try:
        one = job("--every", "4", "--ballast", "30", "--slow", "0.05", "--steps", "16", folder=small / "run")
        assert one.ended() == 0, one.text()
        assert "no space" in one.text()
        assert "finished" in one.text()
        again = job("--steps", "16", "--ballast", "30", folder=small / "run")
        assert again.ended() == 0, again.text()
        assert again.said("started after 15"), "the last save made room for itself: " + one.text()
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def test_a_pod_that_was_replaced_and_still_runs_publishes_nothing_more(job):
    old = job("--every", "1", "--slow", "0.1", "--steps", "100000").until("saved step")
    new = job("--slow", "0.1", "--steps", "100000").until("step ")
    assert old.ended() == 1, old.text()
    assert "FencedError" in old.text() and "stop it" in old.text()
    assert new.send(signal.SIGTERM).ended() == 143


def test_training_in_another_thread_hears_the_notice_when_the_main_thread_listens(job):
    script = """
        import sys, threading, time
        import bedplate
        if "listen" in sys.argv:
            bedplate.listen()
        codes = []
        def train():
            try:
                with bedplate.Guard(sys.argv[1], {"a": 1}) as guard:
                    for step in guard.resume(range(1000)):
                        print("step", step, flush=True)
                        time.sleep(0.02)
                        guard.step(step)
            except SystemExit as end:
                codes.append(end.code)
            except RuntimeError as error:
                print(error)
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        sys.exit(codes[0] if codes else 1)
    """
    one = job("listen", script=script).until("step 3")
    assert one.send(signal.SIGTERM).ended() == 143, one.text()
    other = job(script=script)
    assert other.ended() == 1
    assert "call bedplate.listen() in the main thread" in other.text()


def test_the_handler_that_was_there_before_is_called_too_and_comes_back(tmp_path: Path):
    import bedplate

    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        with pytest.raises(bedplate.Terminated) as end, bedplate.Guard(tmp_path, {"a": 1}) as guard:
            os.kill(os.getpid(), signal.SIGTERM)
            guard.step(1)
        assert end.value.code == 143 and heard == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_notebook_ends_its_guard_and_makes_another(tmp_path: Path):
    """No `with`: cells start and close it. A crash in a cell leaves a guard that nobody closed."""
    import bedplate

    state = {"a": 1}
    guard = bedplate.Guard(tmp_path, state).start()
    guard.step(0)
    again = bedplate.Guard(tmp_path, state).start()
    again.step(1)
    again.close()
    guard.close(RuntimeError("cell"))
    assert bedplate.Guard(tmp_path, state).start().last_step == 1
    assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    bedplate._signals.notice.forget()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
