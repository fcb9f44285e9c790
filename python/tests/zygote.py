"""Starts training processes for the tests, by a fork of one that has imported torch: that takes seconds otherwise.

Reads one JSON object a line: arguments, environment, log, exit. The child runs the script as `python SCRIPT` would; its exit
code, negative for a signal, is written to the file `exit`. Prints the pid of each child.
"""

import atexit
import json
import os
import runpy
import sys
import threading
import traceback

import numpy  # noqa: F401
import torch
import torch._dynamo  # noqa: F401 which the first step of an optimizer imports


def reap(pid: int, path: str) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(f"{path}.tmp", "w") as file:
        file.write(str(code))
    os.rename(f"{path}.tmp", path)


def serve() -> None:
    """Returns in the children only."""
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2), os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.environ.clear()
            os.environ.update(request["environment"])
            sys.argv = request["arguments"]
            return
        threading.Thread(target=reap, args=(pid, request["exit"]), daemon=True).start()
        print(pid, flush=True)
    os._exit(0)


serve()
sys.stdout.reconfigure(line_buffering=True)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
code = 0
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    if not isinstance(end.code, (int, type(None))):
        print(end.code, file=sys.stderr)
except BaseException:  # noqa: BLE001 as Python itself
    traceback.print_exc()
    code = 1
# As Python ends, but for the destructors of C++: in one of fifty processes those of torch's gloo abort, when all is done.
for thread in threading.enumerate():
    if not thread.daemon and thread is not threading.main_thread():
        thread.join()
atexit._run_exitfuncs()
sys.stdout.flush(), sys.stderr.flush()
os._exit(code)
