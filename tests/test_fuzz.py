"Whatever is sent, the server answers in words and never with a 500."

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.testing import ScriptedModel

WAITS = re.compile(r"events|waits|shutdown|dequeue")  # they answer late on purpose, or end the server
KEYS = [
    "input",
    "mode",
    "config",
    "metadata",
    "status",
    "rollout_id",
    "attempt_id",
    "worker_id",
    "rollout_ids",
    "attempt_ids",
    "rollouts",
    "limit",
    "offset",
    "timeout",
    "wait_s",
    "resources",
    "spans",
    "name",
    "attributes",
    "reward",
    "rewards",
    "error",
    "sort_by",
    "sort_order",
    "filter_logic",
    "status_in",
    "tasks",
    "run_id",
    "step",
    "heartbeat_stats",
    "last_heartbeat_time",
    "sequence_id",
    "trace_id",
    "start_time",
    "template",
    "resource_type",
    "metrics",
    "state",
    "note",
    "parents",
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["latest", "-1", ""])
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(KEYS), v, max_size=3)
)
bodies = st.dictionaries(st.sampled_from(KEYS), values, max_size=5) | values


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("AGENTLIGHTNING_HOME", str(tmp_path_factory.mktemp("home")))
    with LightningStore() as store, AgentLightningServer(store, token="t") as s:
        s.upstream = ScriptedModel(lambda request: "Yes.")
        yield s
    patch.undo()


def call(server, method, path, raw=None):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    try:
        connection.request(method, path, raw, {"Authorization": "Bearer t", "Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def operations(server):
    paths = json.loads(call(server, "GET", "/openapi.json")[1])["paths"]
    return [(m.upper(), p) for p, by in paths.items() for m in by if not WAITS.search(p)]


EXAMPLES = int(os.environ.get("FUZZ", 0))  # FUZZ=5000 draws others each time; CI draws the same ones


@settings(
    max_examples=EXAMPLES or 400,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.timeout(120 + EXAMPLES)
@given(data=st.data())
def test_any_json_to_any_route_is_answered_in_words(server, data):
    method, template = data.draw(st.sampled_from(operations(server)))
    row = server.store.start_rollout("x")
    known = {"rollout_id": row.rollout_id, "attempt_id": row.attempt.attempt_id}
    fill = lambda m: known.get(m[1], "") if data.draw(st.booleans()) else data.draw(st.text(min_size=1, max_size=6))  # noqa: E731
    path = re.sub(r"\{(\w+)\}", lambda m: quote(fill(m) or "x", safe=""), template)
    body = data.draw(bodies)
    if isinstance(body, dict) and data.draw(st.booleans()):
        body |= known
    raw = json.dumps(body).encode() if method == "POST" else None
    status, told = call(server, method, path, raw)
    assert status < 500, (method, path, body, told)
    if status >= 400 and not path.endswith("/v1/traces"):
        said = json.loads(told)
        assert said.get("detail") or said["error"]["message"], (method, path, told)


@pytest.mark.slow
def test_what_the_openapi_page_promises_is_kept_under_schemathesis(server):
    pytest.importorskip("schemathesis")
    command = shutil.which("st", path=str(Path(sys.executable).parent))
    options = ["--checks", "not_a_server_error", "--phases", "examples,fuzzing", "-n", "20", "--seed", "1"]
    options += ["-H", "Authorization: Bearer t", "--exclude-path-regex", WAITS.pattern, "--no-color"]
    done = subprocess.run(
        [command, "run", f"{server.url}/openapi.json", *options], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout[-3000:]
