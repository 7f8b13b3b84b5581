"Workers outside the kernel: real processes, a real server on loopback, and everything that kills them."

import contextlib
import importlib
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from waiting import until

from agentlightning_nb.client import LightningClient
from agentlightning_nb.errors import BadRequestError, RunError, ServerError, UnauthorizedError
from agentlightning_nb.litagent import LitAgent, rollout
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM
from agentlightning_nb.workers.elsewhere import load_agent
from agentlightning_nb.workers.processes import ProcessHandle, ProcessPool
from agentlightning_nb.workers.supervised import config_for

pytestmark = pytest.mark.timeout(100)
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path / "home"))


@pytest.fixture
def server(tmp_path):
    with LightningStore(tmp_path / "store.db") as store, AgentLightningServer(store, token="t") as s:
        yield s


def by_value(function):
    "The agent of a function as a notebook would send it: nothing here can be imported by the workers."
    function.__module__ = "__main__"
    return rollout(function)


def ask(store, *inputs, **config):
    kept = config_for("process").model_copy(update=config)
    return [r.rollout_id for r in store.enqueue_many_rollouts([{"input": i, "config": kept} for i in inputs])]


def wait(store, ids, timeout=60):
    done = store.wait_for_rollouts(rollout_ids=ids, timeout=timeout)
    assert len(done) == len(ids), "some rollouts have not ended"
    return done


def attempts(store, rollout_id):
    return [a.status for a in store.query_attempts(rollout_id)]


def pool_of(server, agent, n_workers=1, **options):
    options = {"heartbeat_s": 0.1, **options}
    return ProcessPool(
        server.store, agent, n_workers=n_workers, server_url=server.url, server_token=server.token, **options
    )


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
    return True


def text_of(path):
    return path.read_text() if path.exists() else ""


@by_value
def fine(task):
    return float(task.input)


# what travels


def test_a_class_of_the_notebook_and_what_its_closure_holds_travel(server):
    factor = 3

    class Times(LitAgent):
        offset = 1

        async def training_rollout(self, task, rollout_id, resources):
            return float(task.input * factor + self.offset)

    Times.__module__ = "__main__"
    with pool_of(server, Times(), 2):
        done = wait(server.store, ask(server.store, *range(6)))
    assert [r.reward for r in done] == [3.0 * i + 1 for i in range(6)]


def test_workers_are_other_processes(server):
    @by_value
    def agent():
        import os

        return float(os.getpid())

    with pool_of(server, agent, 2) as pool:
        done = wait(server.store, ask(server.store, *range(8)))
        pids = {float(h.process.pid) for h in pool.handles}
    assert {r.reward for r in done} <= pids and float(os.getpid()) not in pids


def test_an_agent_that_cannot_travel_is_refused_by_name(server):
    lock = threading.Lock()
    with pytest.raises(BadRequestError, match="cannot travel.*lock"):
        pool_of(server, by_value(lambda task: float(lock.locked())))


def test_an_agent_that_cannot_be_loaded_there_ends_the_pool_with_a_sentence(server):
    class Breaks(LitAgent):
        def __reduce__(self):
            return int, ("no number",)

    with pool_of(server, Breaks()) as pool:
        error = until(lambda: pool.error)
    assert isinstance(error, RunError) and "cannot be loaded where it is to work" in str(error)


def test_an_agents_prints_and_input_leave_the_channel_alone(server):
    @by_value
    def agent():
        import subprocess
        import sys

        print('{"problem": "not ours"}')
        subprocess.run([sys.executable, "-c", "print('nor this')"], check=True)
        return float(sys.stdin.read() == "")

    with pool_of(server, agent) as pool:
        (done,) = wait(server.store, ask(server.store, 1))
        assert pool.error is None
    assert done.reward == 1.0


def test_an_agents_exception_is_data_and_not_tried_again(server):
    @by_value
    def agent(task):
        raise ValueError("not today")

    with pool_of(server, agent):
        (done,) = wait(server.store, ask(server.store, 1))
    assert done.status == "failed" and attempts(server.store, done.rollout_id) == ["failed"]
    assert "not today" in server.store.get_latest_attempt(done.rollout_id).error.message


# what dies


@POSIX
def test_a_worker_killed_in_the_middle_costs_an_attempt(server, tmp_path):
    mark = tmp_path / "pid"

    @by_value
    def agent(rollout, task):
        import os

        if task.input == "slow" and rollout.attempt.sequence_id == 1:
            mark.write_text(str(os.getpid()))
            time.sleep(60)
        return 1.0

    with pool_of(server, agent, 2) as pool:
        ids = ask(server.store, "slow", *range(10))
        pid = int(until(lambda: text_of(mark)))
        os.kill(pid, signal.SIGKILL)
        done = wait(server.store, ids)
        until(lambda: len(pool.handles) == 2 and all(h.ready for h in pool.handles))
        assert pid not in [h.process.pid for h in pool.handles]
    assert [r.status for r in done] == ["succeeded"] * 11
    assert attempts(server.store, ids[0]) == ["unresponsive", "succeeded"]
    assert "was killed by SIGKILL" in server.store.query_attempts(ids[0]).items[0].error.message
    assert sum(len(attempts(server.store, i)) for i in ids) == 12


@pytest.mark.slow
@POSIX
def test_a_rollout_that_kills_every_worker_ends(server):
    @by_value
    def agent():
        import os

        os._exit(3)

    with pool_of(server, agent) as pool:
        (done,) = wait(server.store, ask(server.store, 1))
        assert pool.error is None
    assert done.status == "failed" and attempts(server.store, done.rollout_id) == ["unresponsive"] * 3
    assert "exit status 3" in server.store.get_latest_attempt(done.rollout_id).error.message


@pytest.mark.slow
@POSIX
def test_a_worker_that_stands_still_is_replaced(server, tmp_path):
    mark = tmp_path / "pid"

    @by_value
    def agent(rollout):
        import os
        import signal

        if rollout.attempt.sequence_id == 1:
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(60)  # the signal goes to another thread, and this one may run on for a moment
        return 1.0

    with pool_of(server, agent, silence_s=3.0):
        (done,) = wait(server.store, ask(server.store, 1))
    assert attempts(server.store, done.rollout_id) == ["unresponsive", "succeeded"] and done.reward == 1.0
    assert "no sign of life" in server.store.query_attempts(done.rollout_id).items[0].error.message
    assert not alive(int(mark.read_text()))


@pytest.mark.slow
@POSIX
def test_an_agent_that_holds_the_interpreter_is_killed(server):
    @by_value
    def agent(rollout):
        if rollout.attempt.sequence_id == 1:
            import ctypes

            ctypes.PyDLL(None).sleep(60)  # keeps the interpreter's lock
        return 1.0

    with pool_of(server, agent, silence_s=3.0):
        (done,) = wait(server.store, ask(server.store, 1))
    assert attempts(server.store, done.rollout_id) == ["unresponsive", "succeeded"]


@pytest.mark.slow
def test_an_agent_that_ignores_its_time_limit_costs_its_process(server):
    @by_value
    def agent(task):

        if task.input == "hang":
            time.sleep(60)
        return 1.0

    with pool_of(server, agent) as pool:
        before = until(lambda: [h.process.pid for h in pool.handles if h.ready])
        slow, quick = ask(server.store, "hang", timeout_seconds=0.3) + ask(server.store, "quick")
        done = wait(server.store, [slow, quick])
        assert [h.process.pid for h in pool.handles] != before
    assert [r.status for r in done] == ["failed", "succeeded"] and attempts(server.store, slow) == ["timeout"]


@pytest.mark.slow
def test_what_an_agent_started_ends_with_its_worker(server, tmp_path):
    mark = tmp_path / "pid"

    @by_value
    def agent():
        import subprocess
        import sys

        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        mark.write_text(str(child.pid))
        time.sleep(60)

    with pool_of(server, agent):
        ask(server.store, 1)
        pid = int(until(lambda: text_of(mark)))
        until(lambda: alive(pid))
    until(lambda: not alive(pid))


def test_a_pool_that_stops_gives_back_what_it_has_not_done(server, tmp_path):
    mark = tmp_path / "mark"

    @by_value
    def agent():

        mark.write_text("x")
        while True:
            time.sleep(0.01)

    with pool_of(server, agent) as pool:
        (asked,) = ask(server.store, 1)
        until(lambda: text_of(mark))
        process = pool.handles[0].process
    assert process.poll() is not None
    row = server.store.get_rollout_by_id(asked)
    assert row.status == "requeuing" and attempts(server.store, asked) == ["unresponsive"]


# what is away


@pytest.mark.slow
def test_a_server_that_is_started_anew_goes_on_where_it_was(tmp_path):
    path, gate = tmp_path / "store.db", tmp_path / "gate"
    gate.mkdir()

    @by_value
    def agent(task):

        (gate / f"began-{task.input}").write_text("x")
        while task.input == 0 and not (gate / "open").exists():
            time.sleep(0.01)
        return float(task.input)

    store = LightningStore(path)
    server = AgentLightningServer(store, token="t").start()
    port = server.url.rpartition(":")[2]
    remote = LightningClient(server.url, "t")
    pool = ProcessPool(remote, agent, n_workers=2, server_url=server.url, server_token="t", heartbeat_s=0.1)
    with pool:
        ids = ask(remote, *range(8))
        until(lambda: (gate / "began-0").exists())
        server.stop()
        store.close()
        (gate / "open").write_text("x")  # ends while nobody can be told
        hang_up(int(port), b"/finish", 4)  # more often than the client tries by itself
        with LightningStore(path) as again, AgentLightningServer(again, port=int(port), token="t"):
            done = wait(again, ids)
            assert [r.reward for r in done] == [float(i) for i in range(8)]
            assert attempts(again, ids[0]) == ["succeeded"]
            pool.stop()
    remote.close()


def hang_up(port, request, times):
    "Listen in place of the server and hang up on everybody, until this request has come so many times."
    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.settimeout(40)
        while times:
            connection, _ = listening.accept()
            connection.settimeout(10)
            with connection, contextlib.suppress(OSError):
                times -= request in connection.recv(65536)


def test_the_same_server_started_again_still_waits_for_claims(server):
    with LightningClient(server.url, "t") as client:
        server.stop()
        server.start()
        with contextlib.suppress(ServerError):
            client.statistics()  # a kept connection may be gone
        claimed = client.submit("dequeue_rollout", "w", wait_s=30.0)
        assert not claimed.done()
        client.enqueue_rollout(1)
        assert claimed.result(30).input == 1


def test_a_client_finds_the_token_of_a_server_started_anew(tmp_path):
    with LightningStore() as store, AgentLightningServer(store) as first:
        client = LightningClient(first.url)
        client.enqueue_rollout(1)
        first.stop()
        with AgentLightningServer(store, port=int(first.url.rpartition(":")[2])) as second:
            assert second.token != first.token
            assert client.statistics() == store.statistics()
        stubborn = LightningClient(second.url, first.token)
        with second, pytest.raises(UnauthorizedError):
            stubborn.statistics()


# the trainer


class Keep:
    def optimize_step(self, rollout_results, resources_version):
        self.results = rollout_results
        return {"version": resources_version, "resources": {}}


@POSIX
def test_fit_with_processes_loses_nothing_when_one_dies(tmp_path):
    mark, algorithm = tmp_path / "once", Keep()

    @by_value
    def agent(task):
        import os

        if task.input == 3 and not mark.exists():
            mark.write_text("x")
            os.kill(os.getpid(), 9)
        return float(task.input)

    with Trainer(n_workers=2, workers="process") as trainer:
        run = trainer.fit(agent, algorithm=algorithm, tasks=list(range(6)), progress=False)
    assert run.status == "succeeded" and mark.exists()
    assert [reward for _, reward in algorithm.results] == [float(i) for i in range(6)]


def test_fit_over_a_remote_backend_with_processes(server):
    algorithm = Keep()
    with Trainer(n_workers=2, backend=server.url, workers="process") as trainer:
        run = trainer.fit(fine, algorithm=algorithm, tasks=[1, 2], progress=False)
    assert run.status == "succeeded" and [reward for _, reward in algorithm.results] == [1.0, 2.0]


def telling_ports(server):
    "An agent whose reward is the port that its model is reached at, and what asks it."

    @by_value
    def agent(resources):
        return float(resources["m"].base_url.split("/")[2].split(":")[1])

    version = server.store.add_resources({"m": LLM(model="m")}).resources_id

    def reward():
        asked = server.store.enqueue_rollout(1, resources_id=version, config=config_for("process")).rollout_id
        return wait(server.store, [asked])[0].reward

    return agent, reward


def test_models_are_reached_through_the_servers_proxy_and_move_with_it(server):
    agent, reward = telling_ports(server)
    with pool_of(server, agent, base_url="http://h:1", token="a") as pool:
        assert reward() == 1.0
        pool.use_address("http://h:2", "b")
        assert reward() == 2.0


def test_a_worker_whose_first_word_is_late_is_waited_for_all_the_same(server, monkeypatch):
    read, really = threading.Event(), ProcessHandle._hear
    monkeypatch.setattr(ProcessHandle, "_hear", lambda self, message: read.wait(30) and really(self, message))
    agent, reward = telling_ports(server)
    with pool_of(server, agent, base_url="http://h:1", token="a") as pool:
        assert reward() == 1.0  # it works, and nothing that it has said has been read
        telling = threading.Thread(target=pool.use_address, args=("http://h:2", "b"))
        telling.start()
        telling.join(0.5)
        assert telling.is_alive()
        read.set()
        telling.join(10)
        assert not telling.is_alive() and reward() == 2.0


def test_unknown_workers_are_refused():
    with pytest.raises(BadRequestError, match="There are: thread, process, ray"):
        Trainer(workers="forked")


def test_an_agent_that_cannot_travel_is_refused_where_fit_is_called(server):
    lock = threading.Lock()
    with Trainer(n_workers=1, backend=server, workers="process") as trainer:
        with pytest.raises(BadRequestError, match="cannot travel"):
            trainer.start(by_value(lambda task: float(lock.locked())), algorithm=Keep(), tasks=[1])
    assert [r["status"] for r in server.store.query_runs()] == ["failed"]


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.litagent import LitAgent

class Slow(LitAgent):
    def training_rollout(self, task, rollout_id, resources):
        Path(sys.argv[1], str(os.getpid())).write_text("x")
        time.sleep(60)

class Keep:
    def optimize_step(self, results, version):
        return None

if __name__ == "__main__":
    trainer = Trainer(n_workers=2, workers="process")
    run = trainer.start(Slow(), algorithm=Keep(), tasks=["a", "b"])
    time.sleep(60)
"""


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_kernel_that_is_killed(tmp_path, how):
    script, marks = tmp_path / "script.py", tmp_path / "marks"
    script.write_text(SCRIPT)
    marks.mkdir()
    kernel = subprocess.Popen([sys.executable, script, marks])
    try:
        until(lambda: len(list(marks.iterdir())) == 2)
        pids = [int(p.name) for p in marks.iterdir()]
        assert all(alive(p) for p in pids)
    finally:
        kernel.send_signal(how)
        kernel.wait(20)
    until(lambda: not any(alive(p) for p in pids))


# the command


AGENT = """
import time
from pathlib import Path
from agentlightning_nb.litagent import LitAgent, rollout

class Doubles(LitAgent):
    def training_rollout(self, task, rollout_id, resources):
        return 2.0 * task.input

@rollout
async def triples(task):
    return 3.0 * task.input

@rollout
def slow(task):
    Path("began").write_text("x")
    while not Path("open").exists():
        time.sleep(0.01)
    return 1.0

four = 4

class Needs(LitAgent):
    def __init__(self, what):
        pass
"""


@contextlib.contextmanager
def worker(folder, *options):
    "A worker process of the command line in a folder with agents; gives the process."
    (folder / "my_agents.py").write_text(AGENT)
    command = [sys.executable, "-m", "agentlightning_nb.cli", "worker", "start", *options]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@POSIX
@pytest.mark.parametrize(("name", "factor"), [("Doubles", 2.0), pytest.param("triples", 3.0, marks=pytest.mark.slow)])
def test_worker_start_works_for_a_server_until_it_is_told_to_stop(tmp_path, name, factor):
    with AgentLightningServer(LightningStore()) as server:  # the worker finds the token by itself
        with worker(tmp_path, "--server", server.url, "--agent", f"my_agents:{name}", "--n", "3") as process:
            assert "3 workers" in process.stdout.readline()
            done = wait(server.store, ask(server.store, *range(9)))
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=30)
    assert [r.reward for r in done] == [factor * i for i in range(9)]
    assert process.returncode == 0 and "given back" in out and "Traceback" not in out


@pytest.mark.slow
@POSIX
def test_worker_start_waits_for_a_server_and_finds_it_again(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with LightningStore(tmp_path / "store.db") as store:
        with worker(tmp_path, "--server", url, "--agent", "my_agents:Doubles", "--n", "1") as process:
            assert "does not answer yet" in process.stdout.readline()
            for value in (1, 2):
                with AgentLightningServer(store, port=port):  # each time with another token
                    assert wait(store, ask(store, value))[0].reward == 2.0 * value
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("processes", [False, True])
def test_a_stopped_worker_lets_attempts_end_within_its_grace(tmp_path, server, processes):
    options = ["--server", server.url, "--token", "t", "--agent", "my_agents:slow", "--n", "1", "--grace", "30"]
    with worker(tmp_path, *options, *(["--processes"] if processes else [])) as process:
        (asked,) = ask(server.store, 1)
        until((tmp_path / "began").exists)
        process.send_signal(signal.SIGTERM)
        assert process.poll() is None
        (tmp_path / "open").write_text("x")
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert server.store.get_rollout_by_id(asked).status == "succeeded", out


@pytest.mark.slow
@POSIX
def test_a_stopped_worker_gives_back_what_takes_longer(tmp_path, server):
    options = ["--server", server.url, "--token", "t", "--agent", "my_agents:slow", "--n", "1", "--grace", "0"]
    with worker(tmp_path, *options) as process:
        (asked,) = ask(server.store, 1)
        until((tmp_path / "began").exists)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0 and server.store.get_rollout_by_id(asked).status == "requeuing"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("my_agents", "names no agent"),
        ("no_such_thing:Agent", "No module named 'no_such_thing'"),
        ("my_agents:Missing", "has no attribute 'Missing'"),
        ("my_agents:four", "is 4, which is no agent"),
        ("my_agents:Needs", "cannot be loaded .*'what'"),
    ],
)
def test_an_agent_that_cannot_be_had_is_a_clear_error(tmp_path, monkeypatch, name, problem):
    (tmp_path / "my_agents.py").write_text(AGENT)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("my_agents", None)
    with pytest.raises(BadRequestError) as caught:
        load_agent(name)
    assert re.search(problem, str(caught.value))


def test_worker_start_says_in_one_line_that_the_token_is_wrong(tmp_path, server):
    with worker(tmp_path, "--server", server.url, "--token", "wrong", "--agent", "my_agents:Doubles") as process:
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 1 and len(out.splitlines()) == 1 and "token" in out


# everything at once


@pytest.mark.slow
@POSIX
def test_a_short_soak_accounts_for_every_rollout_once(tmp_path):
    soak = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "soak.py"))["soak"]
    told = soak(tmp_path, seconds=6.0, seed=1, n_workers=2, pause_s=0.6, least=3)
    assert told["problems"] == [] and told["attempts"]["succeeded"] == told["rollouts"] >= 50
    assert sum(told["strikes"].values()) >= 3


# Ray


@pytest.fixture(scope="module")
def ray():
    module = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options = {"num_cpus": 2, "include_dashboard": False, "log_to_driver": False, "_node_ip_address": "127.0.0.1"}
    module.init(**options)
    yield module
    module.shutdown()


@POSIX
@pytest.mark.slow
def test_ray_actors_run_a_notebooks_agent_and_lose_nothing_when_one_dies(ray, tmp_path):
    mark, algorithm, offset = tmp_path / "once", Keep(), 10

    @by_value
    def agent(task):
        import os

        if task.input == 3 and not mark.exists():
            mark.write_text("x")
            os.kill(os.getpid(), 9)
        return float(task.input + offset)

    with Trainer(n_workers=2, workers="ray") as trainer:
        run = trainer.fit(agent, algorithm=algorithm, tasks=list(range(6)), progress=False)
        tries = sorted(len(trainer.store.query_attempts(i)) for i, _ in algorithm.results)
    assert run.status == "succeeded" and tries == [1, 1, 1, 1, 1, 2]
    assert [reward for _, reward in algorithm.results] == [float(i + offset) for i in range(6)]
    assert ray.is_initialized()  # it was here before the trainer


@POSIX
@pytest.mark.slow
def test_a_ray_actor_that_hangs_is_replaced(ray, server):
    from agentlightning_nb.workers.ray import RayPool

    @by_value
    def agent(rollout):
        if rollout.attempt.sequence_id == 1:
            import ctypes

            ctypes.PyDLL(None).sleep(60)
        return 1.0

    options = {"server_url": server.url, "server_token": "t", "heartbeat_s": 0.1, "silence_s": 4.0}
    with RayPool(server.store, agent, n_workers=1, **options) as pool:
        first = until(lambda: [h for h in pool.handles if h.ready])
        (done,) = wait(server.store, ask(server.store, 1))
        assert pool.handles != first
    assert attempts(server.store, done.rollout_id) == ["unresponsive", "succeeded"]


def test_an_agent_travels_with_the_modules_beside_the_notebook(tmp_path, monkeypatch):
    from agentlightning_nb.workers.supervised import own_modules, pack_agent

    (tmp_path / "their_tools.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "their_agents.py").write_text(
        "import their_tools\nfrom agentlightning_nb.litagent import LitAgent\n\n\nclass Doubles(LitAgent):\n"
        "    def training_rollout(self, task, rollout_id, resources):\n        return their_tools.twice(task)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    made = importlib.import_module("their_agents").Doubles()
    there = (
        "import sys, cloudpickle; agent = cloudpickle.load(sys.stdin.buffer); print(agent.training_rollout(21, '', {}))"
    )

    def elsewhere(packed):
        return subprocess.run([sys.executable, "-c", there], input=packed, capture_output=True, timeout=60, cwd="/")

    try:
        assert b"No module named 'their_agents'" in elsewhere(pack_agent(made)).stderr
        assert elsewhere(pack_agent(made, own_modules())).stdout.strip() == b"42"
        names = {module.__name__ for module in own_modules()}
        assert {"their_tools", "their_agents"} <= names and not names & {"json", "pytest", "cloudpickle"}
    finally:
        for name in ("their_tools", "their_agents"):
            sys.modules.pop(name, None)


@POSIX
@pytest.mark.slow
def test_an_agent_that_ray_cannot_load_ends_the_pool_with_a_sentence(ray, server):
    from agentlightning_nb.workers.ray import RayPool

    class Breaks(LitAgent):
        def __reduce__(self):
            return int, ("no number",)

    with RayPool(server.store, Breaks(), n_workers=1, server_url=server.url, server_token="t") as pool:
        error = until(lambda: pool.error)
    assert isinstance(error, RunError) and "cannot be loaded" in str(error)
