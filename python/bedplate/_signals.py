"""The notice to end: one flag a process, set by a signal handler that does nothing else and calls the one before it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

log = logging.getLogger("bedplate")


class Notice:
    """Whether, and when, this process was told to end."""

    def __init__(self) -> None:
        self.at: float | None = None
        """When, on the monotonic clock."""
        self.times = 0
        self.name = ""
        self._before: dict[int, Any] = {}
        self._sigchld: Any = None
        self._users = 0

    def listen(self, signals: tuple[int, ...]) -> None:
        """Begins to listen; each call wants a `forget`."""
        self._users += 1
        missing = [number for number in signals if number not in self._before]
        if missing and threading.current_thread() is not threading.main_thread():
            self._users -= 1
            raise RuntimeError(
                "Python lets only the main thread handle signals, and this is "
                f"{threading.current_thread().name!r}: call bedplate.listen() in the main thread before, or pass signals=() "
                "and call guard.stop() from what hears of the end"
            )
        for number in missing:
            self._before[number] = signal.signal(number, self._hear)

    def forget(self) -> None:
        """Gives the signals back to whom they belonged, when nobody listens any more."""
        self._users = max(0, self._users - 1)
        if self._users or threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            # Somebody who came after us, and may call us, stays.
            if signal.getsignal(number) == self._hear:
                signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()
        if self._sigchld is not None:
            signal.signal(signal.SIGCHLD, self._sigchld)
            self._sigchld = None
        self.at, self.times = None, 0

    def set(self, name: str) -> None:
        self.times += 1
        self.name = name
        if self.at is None:
            self.at = time.monotonic()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.set(signal.Signals(number).name)
        # Who is told together with its DataLoader workers would hear of their end by an exception in the middle of a step.
        handler = signal.getsignal(signal.SIGCHLD)
        if self._sigchld is None and callable(handler):
            self._sigchld = handler
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        before = self._before.get(number)
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)

    def _in_child(self) -> None:
        """A forked child is no training process: a signal does to it what it did before the guard was there."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._hear:
                signal.signal(number, signal.SIG_DFL if before is None else before)
        self.__init__()  # type: ignore[misc]


notice = Notice()
os.register_at_fork(after_in_child=notice._in_child)


def listen(signals: tuple[int, ...] = (signal.SIGTERM,)) -> None:
    """Listens for the notice to end from now on. For programs whose training runs in another thread than the main one:
    call it in the main thread, before the guard is made."""
    notice.listen(signals)
