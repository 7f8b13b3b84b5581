"Waiting for what comes by itself, in tests that start processes."

import threading


def until(looked, timeout_s=120.0):
    "What is looked for, once it is there."
    tick = threading.Event()
    for _ in range(int(timeout_s / 0.1)):
        if found := looked():
            return found
        tick.wait(0.1)
    raise AssertionError("It did not come.")
