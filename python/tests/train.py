"""A small real training: a network with dropout and batch norm, AdamW, a schedule, shuffled data from worker processes.

    train.py DIR [--steps N] [--every N] [--workers N] [--slow S] [--evaluate-at N] [--width N]

Prints one line a step, with the bits of its loss.
"""

import argparse
import random
import time

import numpy as np
import torch

import bedplate

parser = argparse.ArgumentParser()
parser.add_argument("dir")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--every", default="1000 steps")
parser.add_argument("--workers", type=int, default=0)
parser.add_argument("--slow", type=float, default=0.0)
parser.add_argument("--evaluate-at", type=int, default=-1)
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--keep", type=int, default=3)
parser.add_argument("--exit-code", type=int, default=143)
parser.add_argument("--ballast", type=int, default=0, help="MiB of state that changes with each step")
options = parser.parse_args()

torch.set_num_threads(1)
random.seed(1), np.random.seed(1), torch.manual_seed(1)
model = torch.nn.Sequential(
    torch.nn.Linear(16, options.width),
    torch.nn.BatchNorm1d(options.width),
    torch.nn.Dropout(0.2),
    torch.nn.Linear(options.width, 1),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=1000)
state = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
if options.ballast:
    state["ballast"] = np.zeros(options.ballast << 20, np.uint8)


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 8 * 100_000

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(16, generator=generator)


every = options.every if not options.every.isdigit() else int(options.every)
with bedplate.Guard(
    options.dir, state, every=every, keep=options.keep, best=("loss", "min"), exit_code=options.exit_code
) as guard:
    print("started after", guard.last_step, flush=True)
    begin = 0 if guard.last_step is None else guard.last_step + 1
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(Data(), range(begin * 8, 8 * 100_000)), batch_size=8, num_workers=options.workers
    )
    batches = iter(loader)
    for step in guard.resume(range(options.steps)):
        print("in step", step, flush=True)
        x = next(batches)
        noise = random.random() + np.random.rand()
        loss = (model(x) - x.sum(1, keepdim=True) * noise).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if options.ballast:
            state["ballast"] += 1
        time.sleep(options.slow)
        print("step", step, float(loss).hex(), flush=True)
        guard.step(step, metrics={"loss": loss})
        if step == options.evaluate_at:
            print("evaluates", flush=True)
            for _ in range(10_000):
                time.sleep(0.01)
                guard.poll()
print("finished", flush=True)
