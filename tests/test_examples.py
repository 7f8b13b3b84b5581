"Each example, run as it stands: its framework's own client, a real server, and an engine that answers as a simulated model."

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import run_example
from run_example import EXAMPLES

from agentlightning_nb.store import LightningStore
from agentlightning_nb.testing import ids_of

NEEDS = {
    "plain_function": "json",
    "openai_chat": "openai",
    "openai_stream": "openai",
    "openai_responses": "openai",
    "openai_agents_sdk": "agents",
    "langgraph_react": "langgraph",
    "anthropic_messages": "anthropic",
}
# these need packages that the environment of the tests cannot have; `make clients` makes one that can
ELSEWHERE = {
    "autogen_agentchat": "autogen_agentchat",
    "llama_index_function_agent": "llama_index.llms.openai_like",
    "smolagents_tool_calling": "smolagents",
    "claude_agent": "claude_agent_sdk",
}
CALLS = {"openai_chat": 2, "openai_agents_sdk": 2, "langgraph_react": 2}
CALLS |= {"autogen_agentchat": 2, "llama_index_function_agent": 2, "smolagents_tool_calling": 2}
DIALECT = {
    "openai_responses": "responses",
    "openai_agents_sdk": "responses",
    "anthropic_messages": "messages",
    "claude_agent": "messages",
}
STREAMED = {"openai_stream", "anthropic_messages", "llama_index_function_agent", "claude_agent"}
MADE = Path(__file__).parent.parent / ".venv-clients"
PYTHON = os.environ.get("AGENTLIGHTNING_CLIENTS_PYTHON") or str(
    MADE / ("Scripts" if os.name == "nt" else "bin") / "python"
)


def run_elsewhere(name, home):
    "The same in the clients' environment, which sees neither settings nor keys of this one."
    if not Path(PYTHON).exists():
        pytest.skip("The clients' environment is not there; `make clients` makes it.")
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "AGENTLIGHTNING_HOME": str(home), "OMP_NUM_THREADS": "1"}
    env |= {k: os.environ[k] for k in ("SYSTEMROOT", "TEMP") if k in os.environ}
    if subprocess.run([PYTHON, "-c", f"import {ELSEWHERE[name]}"], env=env, capture_output=True, timeout=60).returncode:
        pytest.skip(f"The clients' environment has no {ELSEWHERE[name]}; `make clients` installs it.")
    script = [PYTHON, run_example.__file__, name]
    done = subprocess.run(script, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def run_here(name):
    pytest.importorskip(NEEDS[name])
    return json.loads(json.dumps(run_example.run(name)))


def test_every_example_is_run_here():
    assert {p.stem for p in EXAMPLES.glob("*.py")} == {*NEEDS, *ELSEWHERE}


def test_every_example_stands_in_the_table():
    told = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in EXAMPLES.glob("*.py") if f"]({p.name})" not in told] == []


@pytest.mark.parametrize("name", [*NEEDS, *ELSEWHERE])
def test_an_example_earns_its_reward_and_every_call_is_recorded(name, tmp_path):
    found = run_here(name) if name in NEEDS else run_elsewhere(name, tmp_path)
    rollouts, requests = found["rollouts"], found["requests"]
    assert [(r["status"], r["reward"]) for r in rollouts] == [("succeeded", 1.0)] * 2, rollouts
    assert len(requests) == sum(len(r["calls"]) for r in rollouts)
    for r, calls in zip(rollouts, (CALLS.get(name, 1), 1), strict=True):
        assert len(r["calls"]) == len(r["triplets"]) == calls
        for call, triplet in zip(r["calls"], r["triplets"], strict=True):
            check_recorded(name, call, triplet, requests)
        asked = [m for m in json.loads(r["calls"][0]["gen_ai.input.messages"]) if m["role"] == "user"]
        assert r["question"] in json.dumps(asked)


def check_recorded(name, call, triplet, requests):
    "The span of a call holds what the model was asked and what it said, to the token."
    assert (call["agl.dialect"], call["agl.streamed"]) == (DIALECT.get(name, "chat"), name in STREAMED)
    messages = json.loads(call["gen_ai.input.messages"])
    (request,) = [q for q in requests if q["messages"] == messages]
    assert json.loads(call.get("gen_ai.tool.definitions", "null")) == request.get("tools")
    (said,) = json.loads(call["gen_ai.output.messages"])
    arguments = [c["function"]["arguments"] for c in said.get("tool_calls") or []]
    prompt, response = ids_of(json.dumps(messages)), ids_of((said["content"] or "") + "".join(arguments))
    assert triplet == [prompt, response] == [call["prompt_token_ids"], call["response_token_ids"]]
    usage = [call["gen_ai.usage.input_tokens"], call["gen_ai.usage.output_tokens"]]
    assert usage == [len(prompt), len(response)]
    assert call["gen_ai.response.finish_reasons"] == ["tool_calls" if arguments else "stop"]
    assert call["agl.retry_count"] == 0 and json.loads(call["agl.response"])["x-simulated"] is True


ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path.parent.name for path in (ROOT / "examples").glob("*/agent.py"))
IMPORTS = {"conversation": "autogen_agentchat, torch", "text_to_sql": "langgraph", "retrieval_qa": "agents"}


def test_every_example_has_a_readme_that_says_what_it_needs_costs_and_reaches():
    told = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for folder in (ROOT / "examples").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"]({folder.name}/README.md)" in told
            readme = (folder / "README.md").read_text(encoding="utf-8")
            assert folder.name == "clients" or all(
                f"**{part}.**" in readme for part in ("Needs", "Costs", "Reaches")
            ), folder


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", FOLDERS)
def test_an_example_is_trained_at_a_small_size(name, tmp_path):
    python = PYTHON if name == "conversation" else sys.executable
    needs = IMPORTS.get(name, "openai")
    if not Path(python).exists() or subprocess.run([python, "-c", f"import {needs}"], capture_output=True).returncode:
        pytest.skip(f"{needs} is not installed for it")
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
    env |= {"AGENTLIGHTNING_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [python, str(ROOT / "examples" / "train.py"), name, "--small", "--store", str(tmp_path / "run.db")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=380, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert ("SIMULATED" in done.stdout) == (name == "room_booking")
    with LightningStore(tmp_path / "run.db") as store:
        kept = store.rollouts_df()
        assert len(kept) > 40 and (kept["status"] == "succeeded").mean() > 0.9, kept["status"].value_counts()
        assert len(store.query_resources().items) >= 3


BESIDE = """
import threading, train
rows_of = train.load("text_to_sql").rows_of
pairs = "SELECT count(*) FROM orders a, orders b WHERE a.copies > b.copies"  # is cut off
found = []

def ask():
    for _ in range(30):
        try:
            rows_of(pairs)
        except ValueError as e:
            found.append(str(e))

threads = [threading.Thread(target=ask) for _ in range(4)]
[t.start() for t in threads], [t.join() for t in threads]
assert found == ["interrupted"] * 120, found
"""


@pytest.mark.slow
@pytest.mark.timeout(100)
def test_long_queries_of_many_threads_are_cut_off_and_do_not_lock_each_other_out():
    "In a process of its own, since threads locked out inside SQLite cannot be ended from within."
    pytest.importorskip("langgraph")
    done = subprocess.run(
        [sys.executable, "-c", BESIDE], cwd=ROOT / "examples", capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr[-2000:]
