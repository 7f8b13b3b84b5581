"Waiting for what comes by itself, on another thread, in another process or on this loop, and never longer than it says."

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any


def until(looked: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    "What is looked for, once it is there."
    deadline, tick = time.monotonic() + timeout_s, threading.Event()
    while not (found := looked()):
        assert time.monotonic() < deadline, f"It did not come within {timeout_s:g} s."
        tick.wait(0.01)
    return found


async def until_here(looked: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    "The same for what comes on the running loop."
    deadline = time.monotonic() + timeout_s
    while not (found := looked()):
        assert time.monotonic() < deadline, f"It did not come within {timeout_s:g} s."
        await asyncio.sleep(0.002)
    return found
