# ruff: noqa: INP001
"""A version with a defect: it starts, works, and stands still after a few seconds, as a deadlock would make it."""

import os
import signal
import threading
import time

from ec_pump_guard.__main__ import main


def freeze() -> None:
    time.sleep(4)
    os.kill(os.getpid(), signal.SIGSTOP)


threading.Thread(target=freeze, daemon=True).start()
main()
