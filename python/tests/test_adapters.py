"""Frameworks that own the loop: a run that was ended in the middle goes on to what it would have come to."""

import signal
import socket
import subprocess
import sys

import pytest

# Each prints the bits of what its step sees, so that a step which is left out, done twice or given other data shows.
LIGHTNING = """
    import os, signal, sys, time, warnings
    import torch
    import pytorch_lightning as pl
    import bedplate

    warnings.filterwarnings("ignore")
    dir, every, slow, *ends = sys.argv[1:]

    class Loader:
        '''Shuffled, and with a state, as torchdata's StatefulDataLoader has.'''
        def __init__(self):
            self.generator = torch.Generator().manual_seed(7)
            self.order, self.at = [], 0
        def __len__(self):
            return 10
        def __iter__(self):
            if self.at in (0, len(self.order)):
                self.order, self.at = torch.randperm(10, generator=self.generator).tolist(), 0
            while self.at < len(self.order):
                self.at += 1
                yield torch.full((4, 4), 1.0 + self.order[self.at - 1])
        def state_dict(self):
            return {"generator": self.generator.get_state(), "order": self.order, "at": self.at}
        def load_state_dict(self, state):
            self.generator.set_state(state["generator"])
            self.order, self.at = state["order"], state["at"]

    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
            self.seen = 0

        def training_step(self, batch, index):
            loss = (self.layers(batch) - batch.sum(1, keepdim=True)).pow(2).mean()
            step, self.seen = self.trainer.global_step + 1, self.seen + 1
            print("step", step, self.seen, float(loss).hex(), flush=True)
            time.sleep(float(slow))
            if str(step) in ends:
                ends.remove(str(step))
                os.kill(os.getpid(), signal.SIGTERM)
            return loss

        def on_save_checkpoint(self, checkpoint):
            checkpoint["seen"] = self.seen

        def on_load_checkpoint(self, checkpoint):
            self.seen = checkpoint["seen"]

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), 0.1)
            schedule = {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.9), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": schedule}

    def run():
        pl.seed_everything(1, verbose=False)
        net = Net()
        durable = bedplate.adapters.lightning(dir, every=None if every == "never" else int(every))
        quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        ranks = int(os.environ.get("WORLD_SIZE", 1))
        pl.Trainer(max_epochs=3, accelerator="cpu", devices=ranks, callbacks=[durable], **quiet).fit(net, Loader())
        return [parameter.detach().flatten().tolist() for parameter in net.parameters()]
"""

TRANSFORMERS = """
    import os, signal, sys, time
    import torch
    import transformers
    import bedplate

    dir, every, slow, *ends = sys.argv[1:]

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))

        def forward(self, x):
            loss = (self.layers(x) - x.sum(1, keepdim=True)).pow(2).mean()
            step = trainer.state.global_step + 1
            print("step", step, float(loss).hex(), flush=True)
            time.sleep(float(slow))
            if str(step) in ends:
                ends.remove(str(step))
                os.kill(os.getpid(), signal.SIGTERM)
            return {"loss": loss}

    def run():
        global trainer
        transformers.set_seed(1)
        data = [{"x": torch.full((4,), 1.0 + number)} for number in range(40)]
        arguments = transformers.TrainingArguments(
            dir, num_train_epochs=3, per_device_train_batch_size=4, use_cpu=True, report_to="none", disable_tqdm=True,
            save_strategy="no", logging_strategy="no", remove_unused_columns=False, learning_rate=0.1,
        )
        durable = bedplate.adapters.transformers(dir, every=None if every == "never" else int(every))
        print("goes on with", durable.newest, flush=True)
        net = Net()
        trainer = transformers.Trainer(net, arguments, train_dataset=data, callbacks=[durable])
        trainer.train(resume_from_checkpoint=durable.newest)
        return [parameter.detach().flatten().tolist() for parameter in net.parameters()]
"""

KERAS = """
    import os, signal, sys, time
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    import numpy as np
    import bedplate

    dir, every, slow, *ends = sys.argv[1:]

    class Tell(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            step = int(self.model.optimizer.iterations.numpy())
            weights = np.concatenate([weights.ravel() for weights in self.model.get_weights()])
            print("step", step, float(np.sum(weights, dtype=np.float64)).hex(), flush=True)
            time.sleep(float(slow))
            if str(step) in ends:
                ends.remove(str(step))
                os.kill(os.getpid(), signal.SIGTERM)

    def run():
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Dense(8), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        model.compile(keras.optimizers.Adam(0.1), loss="mse")
        durable = bedplate.adapters.keras(dir, every=None if every == "never" else int(every))
        x = np.arange(160, dtype=np.float32).reshape(40, 4)
        model.fit(x, x.sum(1, keepdims=True), batch_size=4, epochs=3, verbose=0, callbacks=[Tell(), durable])
        return [weights.tolist() for weights in model.get_weights()]
"""

# Told to end at the steps `ends`, it begins anew in the same process, with all objects made anew.
RUN = """
    weights = None
    for _ in list(ends):
        try:
            weights = run()
        except bedplate.Terminated as terminated:
            print("ended with", terminated.code, flush=True)
    weights = weights or run()
    print("finished", hash(str(weights)), flush=True)
"""

FRAMEWORKS = {"lightning": LIGHTNING, "transformers": TRANSFORMERS, "keras": KERAS}


@pytest.fixture
def train(job, tmp_path):
    def start(framework, *arguments, folder="run", **environment):
        environment = {"HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0", **environment}
        return job(*arguments, script=FRAMEWORKS[framework] + RUN, folder=tmp_path / folder, **environment)

    return start


def did(job):
    return job.said("step ") + job.said("finished")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_that_was_ended_goes_on_with_the_next_step_and_comes_to_the_same(train, framework):
    # Keras can go on only with an epoch's first batch: exact is what ends with the last one.
    at = 20 if framework == "keras" else 14
    whole = train(framework, "never", "0", folder="whole")
    one = train(framework, "never", "0.1").until(f"step {at} ").send(signal.SIGTERM)
    assert one.ended() == 143, one.text()
    assert one.said("step ")[-1].startswith(f"step {at} "), "it ends with the step that it was in"
    again = train(framework, "never", "0")
    assert (again.ended(), whole.ended()) == (0, 0), again.text() + whole.text()
    assert len(did(whole)) == 31
    assert did(one) + did(again) == did(whole)
    # Once more there is nothing to do.
    idle = train(framework, "never", "0")
    assert idle.ended() == 0, idle.text()
    assert did(idle) == did(whole)[-1:]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_notice_at_the_ends_of_an_epoch_costs_nothing(train, framework):
    # In the last step of one, in the first of the next, and in the very last.
    ends = ("10", "20", "30") if framework == "keras" else ("1", "9", "10", "11", "20", "30")
    whole = train(framework, "never", "0", folder="whole")
    ended = train(framework, "never", "0", *ends)
    assert (whole.ended(), ended.ended()) == (0, 0), ended.text()
    assert did(ended) == did(whole), ended.text()
    assert ended.said("ended with") == ["ended with 143"] * len(ends)


@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_a_notice_to_one_rank_ends_all_at_one_step(train, framework):
    def ranks(*arguments, folder="run"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0", "WORLD_SIZE": "2"}
        own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
        return [train(framework, *arguments, folder=folder, **where, **one) for one in own]

    whole = ranks("never", "0", folder="whole")
    ended = ranks("never", "0.1")
    ended[1].until("step 7 ").send(signal.SIGTERM)
    assert [rank.ended() for rank in whole + ended] == [0, 0, 143, 143], ended[0].text()
    again = ranks("never", "0")
    assert [rank.ended() for rank in again] == [0, 0], again[0].text()
    for one, first, second in zip(whole, ended, again, strict=True):
        assert did(first) + did(second) == did(one)


def test_an_epoch_of_keras_that_was_ended_in_the_middle_is_done_again_from_its_first_batch(train):
    one = train("keras", "never", "0", "14")
    assert one.ended() == 0, one.text()
    steps = [int(line.split()[1]) for line in one.said("step ")]
    assert steps == [*range(1, 15), *range(15, 35)]


def test_keras_resumes_with_jax_too(train):
    whole = train("keras", "never", "0", folder="whole", KERAS_BACKEND="jax")
    ended = train("keras", "never", "0", "10", KERAS_BACKEND="jax")
    assert (whole.ended(), ended.ended()) == (0, 0), ended.text()
    assert did(ended) == did(whole), ended.text()


def test_a_checkpoint_of_the_trainer_that_is_not_whole_is_passed_over(train, tmp_path):
    one = train("transformers", "5", "0.02").until("step 17 ").send(signal.SIGKILL)
    one.ended()
    newest = tmp_path / "run" / "checkpoint-15"
    # One that the kill left half-written, and one that somebody cut since.
    (tmp_path / "run" / "checkpoint-20").mkdir()
    (tmp_path / "run" / "checkpoint-20" / "model.safetensors").write_bytes(b"half")
    again = train("transformers", "never", "0", "16")
    assert again.ended() == 0, again.text()
    assert again.said("goes on with")[0] == f"goes on with {newest}", again.text()
    assert again.said("step ")[0].startswith("step 16 ")
    (tmp_path / "run" / "checkpoint-30" / "optimizer.pt").write_bytes(b"cut")
    idle = train("transformers", "never", "0")
    assert idle.ended() == 0, idle.text()
    assert "checkpoint-30: it is not as it was when it was saved" in idle.text()
    assert idle.said("goes on with") == [f"goes on with {tmp_path / 'run' / 'checkpoint-16'}"]


def test_two_that_would_both_resume_lightning_are_told_so(job):
    weights = "{'pytorch-lightning_version': pl.__version__, 'state_dict': net.state_dict(), 'seen': 0}"
    script = LIGHTNING.replace(
        "durable =", f"os.chdir(os.path.dirname(dir)); torch.save({weights}, 'weights.ckpt'); durable ="
    )
    script = script.replace("fit(net, Loader())", "fit(net, Loader(), ckpt_path='weights.ckpt')") + RUN
    one = job("never", "0", script=script)
    assert one.ended() == 1
    assert "fit(ckpt_path='weights.ckpt') and bedplate's callback would both resume: leave ckpt_path out" in one.text()


def test_no_framework_is_imported_before_its_adapter_is_asked_for():
    heavy = "{'numpy', 'torch', 'jax', 'keras', 'lightning', 'pytorch_lightning', 'transformers'}"
    command = [sys.executable, "-c", f"import sys, bedplate; print(sorted({heavy} & sys.modules.keys()))"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
