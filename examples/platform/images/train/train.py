"""A trainer that would save on SIGTERM, were it ever told."""

import signal
import time

stopping = False


def stop(signum, frame):
    global stopping
    stopping = True


signal.signal(signal.SIGTERM, stop)
while not stopping:
    time.sleep(1)
print("saved")
