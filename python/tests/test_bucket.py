"""A run in a bucket, on a real S3 server."""

import signal

import pytest

import bedplate


def test_a_run_in_a_bucket_that_was_ended_twice_has_the_losses_of_one_that_never_was(job, bucket, tmp_path):
    whole = job("--steps", "12", folder=tmp_path / "whole")
    assert whole.ended() == 0, whole.text()
    losses = []
    for _ in range(2):
        one = job("--steps", "12", "--slow", "0.1", place=bucket.url, **bucket.environment)
        one.until(f"in step {len(losses) + 3}").send(signal.SIGTERM)
        assert one.ended() == 143, one.text()
        assert "is durable" in one.text()
        losses += one.said("step ")
    last = job("--steps", "12", place=bucket.url, **bucket.environment)
    assert last.ended() == 0, last.text()
    losses += last.said("step ")
    assert losses == whole.said("step "), "a step was lost, done twice, or came out otherwise"


def test_a_kill_in_the_middle_of_an_upload_costs_the_steps_since_the_save_before(job, bucket):
    arguments = ("--ballast", "64", "--keep", "2")
    one = job("--every", "1", "--steps", "100000", "--slow", "0.05", *arguments, place=bucket.url, **bucket.environment)
    one.until("saved step").until("in step 5").send(signal.SIGKILL)
    one.ended()
    published = int(one.said("bedplate: saved step")[-1].split()[3].rstrip(":"))
    again = job("--steps", "0", *arguments, place=bucket.url, **bucket.environment)
    assert again.ended() == 0, again.text()
    assert int(again.said("started after")[0].split()[2]) >= published, again.text()
    assert "passed over" not in again.text()


def test_a_service_that_goes_away_costs_saves_and_not_the_training(job, bucket):
    one = job("--every", "2", "--steps", "60", "--slow", "0.1", place=bucket.url, **bucket.environment)
    one.until("saved step")
    bucket.stop_after(3)
    assert one.ended(120) == 1, one.text()
    assert "in step 59" in one.text(), "the training went on"
    assert "no answer from http://127.0.0.1" in one.text(), one.text()
    assert bucket.environment["AWS_SECRET_ACCESS_KEY"] not in one.text()


def test_a_job_of_several_ranks_is_told_that_a_bucket_alone_is_no_place_to_agree_in():
    with pytest.raises(ValueError, match="initialise torch.distributed"):
        bedplate.Guard("s3://checkpoints/run-7", {"a": 1}, rank=0, world_size=2)


def test_a_url_that_is_none_is_one_clear_error():
    with pytest.raises(bedplate.CheckpointError, match="`s4` is no scheme of an object store"):
        bedplate.Guard("s4://checkpoints/run-7", {"a": 1}).start()
