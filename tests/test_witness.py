"What a killed kernel leaves of a tree that it did not begin by itself is ended: over plain processes, and over a Ray of its own."

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
from waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a table of processes is of Linux")
RAYLET = """
import os, subprocess, sys, time
told = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
code = "import os, sys, subprocess, time; os.write({told}, b'%d ' % os.getpid()); {more}time.sleep(99)"
worker = code.format(told=told, more="os.setsid(); ")
actor = code.format(told=told, more=f"subprocess.Popen([sys.executable, '-c', {worker!r}], pass_fds=[{told}]); ")
os.write(told, b"%d " % os.getpid())
subprocess.Popen([sys.executable, "-c", actor], pass_fds=[told])
time.sleep(99)
"""
KERNEL = """
import os, subprocess, sys, time
from agentlightning_nb.witness import Witness
raylet = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], start_new_session=True)
while not os.path.exists(sys.argv[2]) or len(open(sys.argv[2]).read().split()) < 3:
    time.sleep(0.02)
witness = Witness([raylet.pid], grace_s=0.5)
open(sys.argv[2] + ".seen", "w").close()
time.sleep(99)
"""
WITH_RAY = """
import os, subprocess, sys, time
import ray
from agentlightning_nb.cluster import begin_ray
begin_ray(options={"num_cpus": 1})

@ray.remote(num_cpus=1)
class Actor:
    def start(self, path):
        code = "import os, subprocess, sys, time; left = subprocess.Popen(['sleep', '999'], start_new_session=True); "
        code += "open(sys.argv[1], 'w').write(f'{os.getppid()} {os.getpid()} {left.pid} '); time.sleep(999)"
        self.core = subprocess.Popen([sys.executable, "-c", code, path])  # ray ends this one, and not what it has started

actor = Actor.remote()
ray.get(actor.start.remote(sys.argv[1]))
time.sleep(999)
"""


def is_alive(pid):
    try:  # a zombie that nobody has waited for yet does not count
        return open(f"/proc/{pid}/stat").read().split(") ")[1][0] != "Z"
    except OSError:
        return False


def pids_in(path, n, timeout_s=30):
    until(lambda: path.exists() and len(path.read_text().split()) == n, timeout_s)
    return [int(pid) for pid in path.read_text().split()]


@contextlib.contextmanager
def ending(kernel, pids):
    try:
        yield
    finally:
        for pid in (kernel.pid, *pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_one_that_has_lost_its_parents_is_ended_after_the_kernel(tmp_path):
    path, pids = tmp_path / "pids", []
    with subprocess.Popen([sys.executable, "-c", KERNEL, RAYLET, str(path)]) as kernel, ending(kernel, pids):
        pids += pids_in(path, 3)
        raylet, actor, worker = pids
        until((tmp_path / "pids.seen").exists)
        for pid in (kernel.pid, raylet, actor):
            os.kill(pid, signal.SIGKILL)
        kernel.wait()
        until(lambda: not any(map(is_alive, pids)))


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_what_a_ray_actor_has_started_ends_with_a_killed_kernel(tmp_path):
    pytest.importorskip("ray")
    path, pids = tmp_path / "pids", []
    command = [sys.executable, "-c", WITH_RAY, str(path)]
    with (
        subprocess.Popen(command, env={**os.environ, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}) as kernel,
        ending(kernel, pids),
    ):
        pids += pids_in(path, 3, 200)
        time.sleep(2.5)  # the witness looks every two seconds, and when the kernel ends
        kernel.kill()
        kernel.wait()
        until(lambda: not any(map(is_alive, pids)), 60)
