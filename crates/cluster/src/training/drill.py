"""The training of `bedplate prove training`. The first process trains until it is told to end; the one that comes after it
resumes, trains a little further, compares what came of that with a run that was never stopped, and says all of it in the
message of its container, as JSON. Arguments: a folder that outlives the pod, the megabytes of the state, the name of
the run."""

import json
import os
import shutil
import signal
import sys
import time

started = time.time()
MESSAGE = "/dev/termination-log"
FOLDER = os.path.join(sys.argv[1], sys.argv[3])
SIZE = int(sys.argv[2]) << 20
PACE = 0.1
TRAINS = 5
MORE = 20


def say(**what):
    with open(MESSAGE, "w") as file:
        json.dump(what, file)


def fail(why):
    say(error=why)
    sys.exit(why)


try:
    import bedplate
except ImportError as error:
    fail(f"the image has no Python package `bedplate` ({error}): pip install bedplate")

try:
    import torch

    framework = "torch " + torch.__version__
    torch.set_num_threads(1)
except ImportError as why:
    torch = None
    try:
        import numpy
    except ImportError as error:
        fail(f"the image can import neither torch ({why}) nor numpy ({error}): give the one that your trainings run in")
    framework = "numpy " + numpy.__version__


class WithTorch:
    """A layer that learns to give back what it gets, by AdamW."""

    def __init__(self):
        torch.manual_seed(1)
        self.model = torch.nn.Linear(64, 64)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.ballast = torch.arange(SIZE // 4, dtype=torch.float32)
        self.state = {"model": self.model, "optimizer": self.optimizer, "ballast": self.ballast}

    def step(self):
        inputs = torch.randn(32, 64)
        loss = ((self.model(inputs) - inputs) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        # All of the state is another one after each step, as in a real training.
        self.ballast += 1

    def result(self):
        return [tensor.numpy().tobytes() for tensor in self.model.state_dict().values()] + [float(self.ballast[-1])]


class WithNumpy:
    """The same by plain gradient descent."""

    def __init__(self):
        numpy.random.seed(1)
        self.weights = numpy.random.random((64, 64)).astype("float32")
        self.ballast = numpy.arange(SIZE // 4, dtype="float32")
        self.state = {"weights": self.weights, "ballast": self.ballast}

    def step(self):
        inputs = numpy.random.standard_normal((32, 64)).astype("float32")
        self.weights -= 0.01 * inputs.T @ (inputs @ self.weights - inputs)
        self.ballast += 1

    def result(self):
        return [self.weights.tobytes(), float(self.ballast[-1])]


Training = WithTorch if torch else WithNumpy
JOURNAL = os.path.join(FOLDER, "journal")


def note(**what):
    with open(JOURNAL, "a") as file:
        file.write(json.dumps(what) + "\n")


def notes():
    with open(JOURNAL) as file:
        return [json.loads(line) for line in file]


noticed = []
signal.signal(signal.SIGTERM, lambda number, frame: noticed.append(time.time()))

training = Training()
try:
    os.makedirs(FOLDER, exist_ok=True)
    first = not os.path.exists(JOURNAL)
    note(began=started)
    with bedplate.Guard(os.path.join(FOLDER, "run"), training.state, every=None, keep=2) as guard:
        starting = time.time() - started
        # Of a first process that saved nothing, all steps are lost.
        resumed = 0 if guard.last_step is None else guard.last_step + 1
        total = 1_000_000 if first else resumed + MORE
        for step in guard.resume(range(total)):
            training.step()
            # Before the save: what stands there is what was done.
            note(step=step)
            guard.step(step)
            if first and step == TRAINS:
                # The readiness of the pod asks for it.
                say(trains=True)
            time.sleep(PACE)
except SystemExit as end:
    note(code=end.code, durable=time.time(), notice=noticed[0] if noticed else None)
    raise
except (OSError, RuntimeError) as error:
    fail(f"the volume cannot be used: {error}")

lines = notes()
done = [line["step"] + 1 for line in lines if "step" in line]
ended = [line for line in lines if "code" in line]
alone = Training()
for _ in range(total):
    alone.step()
shutil.rmtree(FOLDER, ignore_errors=True)
last = ended[-1] if ended else {}
notice = last.get("notice")
say(
    framework=framework,
    bytes=SIZE,
    done=max(done[:-MORE], default=0),
    resumed=resumed,
    code=last.get("code"),
    saving=last["durable"] - notice if notice else None,
    starting=starting,
    exact=alone.result() == training.result(),
)
