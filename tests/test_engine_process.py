"A server beside the kernel starts within its time, says why when it does not, and is never left behind."

import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest
from waiting import until

from agentlightning_nb.engines.process import ServerProcess
from agentlightning_nb.errors import ServerError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups are of POSIX")
FILES = [sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_serves_until_it_is_stopped_and_leaves_no_port():
    with ServerProcess(FILES, name="files", health="/") as server:
        assert server.answers() and server.start() is server
        port = server.port
    assert not server.running and not is_open(port)
    server.stop()  # once more harms nobody


def test_one_that_ends_at_once_is_shown_with_its_last_words():
    with pytest.raises(ServerError, match="ended while it started(?s:.*)no such luck"):
        ServerProcess([sys.executable, "-c", "raise SystemExit('no such luck')"], name="unlucky").start()


def test_one_that_never_answers_is_ended_in_time(tmp_path):
    pid = tmp_path / "pid"
    code = f"import os, time; print('still loading', flush=True); open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(99)"
    slow = ServerProcess([sys.executable, "-c", code], name="slow", start_timeout_s=1.5)
    with pytest.raises(ServerError, match="did not answer within 1.5 s(?s:.*)still loading"):
        slow.start()
    until(lambda: not is_alive(int(pid.read_text())))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a zombie that nobody has waited for yet
        return open(f"/proc/{pid}/stat").read().split(") ")[1][0] != "Z"
    except OSError:
        return True


def test_children_of_its_children_end_with_it(tmp_path):
    pid = tmp_path / "pid"
    child = f"import subprocess, sys, http.server; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']); open({str(pid)!r}, 'w').write(str(p.pid)); http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')"
    with ServerProcess([sys.executable, "-c", child, "{port}"], name="parent", health="/", start_timeout_s=60):
        grandchild = int(pid.read_text())
        assert is_alive(grandchild)
    until(lambda: not is_alive(grandchild))


FAMILY = """
import http.server, os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
told = open(sys.argv[2], "ab")
os.write(told.fileno(), b"%d " % os.getpid())
near = "import os, time; os.write(1, b'%d ' % os.getpid()); time.sleep(99)"
for code in ("import os; os.setsid(); os.fork() and os._exit(0); " + near, near):  # one without a parent, in a session of its own
    subprocess.Popen([sys.executable, "-c", code], stdout=told)
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""
KERNEL = """
import os, sys, time
from agentlightning_nb.engines.process import ServerProcess
command = [sys.executable, "-c", sys.argv[1], "{port}", sys.argv[2]]
server = ServerProcess(command, name="family", health="/", folder=sys.argv[3]).start()
told = open(sys.argv[2], "ab")
if os.fork() == 0:  # holds what the kernel holds, its end of the guard's pipe among it
    os.write(told.fileno(), b"%d " % os.getpid())
    time.sleep(99)
os.write(told.fileno(), b"%d " % server._process.pid)
time.sleep(99)
"""


def pids_in(path, n):
    until(lambda: path.exists() and len(path.read_text().split()) == n)
    return [int(pid) for pid in path.read_text().split()]


@pytest.mark.slow
def test_a_killed_kernel_leaves_nothing_behind(tmp_path):
    path = tmp_path / "pids"
    weights = tmp_path / "weights"
    weights.mkdir()
    command = [sys.executable, "-c", KERNEL, FAMILY, str(path), str(weights)]
    with subprocess.Popen(command) as kernel:
        pids = []
        try:
            pids = pids_in(path, 5)
            assert weights.exists()
            kernel.kill()
            kernel.wait()
            until(lambda: sum(map(is_alive, pids)) == 1)  # what the kernel has forked is its own
            assert not weights.exists()
        finally:
            for pid in (kernel.pid, *pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_one_whose_parent_has_died_ends_with_the_others(tmp_path):
    path = tmp_path / "pids"
    with ServerProcess([sys.executable, "-c", FAMILY, "{port}", str(path)], name="family", health="/") as server:
        pids = pids_in(path, 3)
        assert all(map(is_alive, pids))
        os.kill(pids[0], signal.SIGKILL)  # the server itself: the guard ends what it leaves
        until(lambda: not any(map(is_alive, pids)) and not server.running)


def test_the_server_ends_with_its_guard(tmp_path):
    with ServerProcess(FILES, name="files", health="/") as server:
        os.kill(server._process.pid, signal.SIGKILL)
        until(lambda: not is_open(server.port))
