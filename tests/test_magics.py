"`%lightning` and `%%reward` in a real IPython shell."

import atexit
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agentlightning_nb.commands import make_parser
from agentlightning_nb.doctor import check_endpoint, doctor
from agentlightning_nb.litagent import rollout
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.testing import Answer, ScriptedModel
from agentlightning_nb.tracer import emit_reward
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM, PromptTemplate

interactive = pytest.importorskip("IPython.core.interactiveshell")
pytest.importorskip("anywidget")
HOSTILE = "</script><img src=x onerror=alert(1)>"


@rollout
def adder(task):
    right = float(task.input["a"] + 1 == task.input["b"])
    emit_reward({"right": right, "said": 0.5})
    return right


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = interactive.InteractiveShell(cache_size=0)  # else each one looks for garbage when it ends
    shell.run_line_magic("load_ext", "agentlightning_nb")
    yield shell
    shell.run_line_magic("lightning", "stop")
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()  # while its folder is there


@pytest.fixture
def told(shell):
    "A store in the notebook, with one run of four rollouts, one of which failed."
    with LightningStore() as store:
        with Trainer(n_workers=2, store=store) as trainer:
            tasks = [{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 5, "b": 6}, {HOSTILE: 1}]
            trainer.evaluate(adder, tasks)
        shell.user_ns["store"] = store
        yield store


def usage_error(shell, line, cell=None):
    from IPython.core.error import UsageError

    with pytest.raises(UsageError) as caught:
        shell.run_line_magic("lightning", line) if cell is None else shell.run_cell_magic("lightning", line, cell)
    return str(caught.value)


def test_a_wrong_word_says_which_exist(shell):
    assert "No command 'sevrer'. There are: start, status, stop, rollouts, inspect" in usage_error(shell, "sevrer")
    assert "required: rollout_id" in usage_error(shell, "inspect")
    assert "No store here. Give --store NAME" in usage_error(shell, "rollouts")
    assert "No variable and no file 'none.db'" in usage_error(shell, "rollouts --store none.db")


@pytest.mark.parametrize("command", ["", *(f"{c} " for c in ("start", "rollouts", "diff", "fit", "dev", "doctor"))])
def test_every_command_explains_itself(shell, command):
    said = shell.run_line_magic("lightning", f"{command}--help").says
    assert said.startswith("usage: %lightning") and "--help" in said


def test_a_server_starts_is_seen_and_stops(shell):
    started = shell.run_line_magic("lightning", "start --db kept.db")
    assert started.data.running and "Trainer(backend=" in repr(started)
    assert "runs already" in usage_error(shell, "start")
    assert ["rollouts", 0] in shell.run_line_magic("lightning", "status").rows
    shell.run_line_magic("lightning", "stop")
    assert not started.data.running and "No server was started" in repr(shell.run_line_magic("lightning", "stop"))


def test_rollouts_are_listed_and_opened(shell, told):
    table = shell.run_line_magic("lightning", "rollouts --sort best")
    assert table.params == {"filters": {"sort": "best"}} and "4 of 4 rollouts" in table.twin()
    assert HOSTILE not in table.twin()
    first = told.query_rollouts().items[0]
    panel = shell.run_line_magic("lightning", f"inspect {first.rollout_id}")
    assert panel.params == {"rollout_id": first.rollout_id}
    assert "No rollout ro-x" in usage_error(shell, "inspect ro-x")
    assert "sort is 'x'" in usage_error(shell, "rollouts --sort x")


def test_the_store_is_found_in_a_file_too(shell, tmp_path):
    with LightningStore(tmp_path / "other.db") as store, Trainer(n_workers=1, store=store) as trainer:
        trainer.evaluate(adder, [{"a": 1, "b": 2}])
    assert "1 of 1 rollouts" in shell.run_line_magic("lightning", "rollouts --store other.db").twin()


def test_runs_are_shown_and_compared(shell, told):
    (run,) = told.query_runs()
    assert shell.run_line_magic("lightning", "rewards").params == {"run_id": run["run_id"]}
    compared = shell.run_line_magic("lightning", "compare")
    assert [row[:3] for row in compared.rows] == [[run["run_id"], "Evaluation", "test"]]
    assert "No run run-x" in usage_error(shell, "compare run-x")


def test_versions_are_compared(shell, told):
    a, b = (told.add_resources({"system": PromptTemplate(text)}).resources_id for text in ("Be short.", HOSTILE))
    shown = shell.run_line_magic("lightning", f"diff {a} {b}")
    bundle = shown._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in bundle and "<ins>" in bundle["text/html"]
    assert shown.rows[0][:3] == ["system", "prompt_template", "changed"] and "[-Be-]" in shown.rows[0][3]
    assert HOSTILE not in shown._repr_html_()


def test_dev_runs_the_agent_of_its_cell(shell, told):
    cell = "from agentlightning_nb.litagent import rollout\n@rollout\ndef mine(task):\n    return float(task.input == 42)\n"
    done = shell.run_cell_magic("lightning", "dev --task 42", cell)
    assert done.final_reward == 1.0 and shell.user_ns["mine"] is not None
    shell.user_ns["adder"], shell.user_ns["one"] = adder, {"a": 1, "b": 2}
    assert shell.run_line_magic("lightning", "dev adder --task one").rewards["right"] == 1.0
    assert "Which agent?" in usage_error(shell, "dev --task 1", "x = 1")
    assert "is nothing in this notebook" in usage_error(shell, "dev nobody --task 1")


def test_fit_trains_with_the_notebooks_variables(shell, told):
    class Look:
        def optimize_step(self, rollout_results, resources_version):
            self.rewards = [reward for _, reward in rollout_results]

    shell.user_ns |= {"adder": adder, "tasks": [{"a": 1, "b": 2}], "look": (look := Look())}
    run = shell.run_line_magic("lightning", "fit adder --tasks tasks --algorithm look --steps 1")
    assert run.status == "succeeded" and look.rewards


def test_a_reward_cell_rescores_what_is_stored(shell, told):
    cell = "def reward(rollout):\n    return 1.0 - rollout.rewards['right']\n"
    rescored = shell.run_cell_magic("reward", "", cell)
    assert [(r.old, r.new) for r in rescored.rows] and "3 of 3 rollouts" in str(rescored)
    shown = shell.display_formatter.format(rescored)[0]
    assert "recorded" in shown["text/html"] and "rollouts" in shown["text/plain"]
    shell.run_cell_magic("reward", "--save turned", cell)
    assert {n.name for n in told.query_annotations()} == {"turned"}
    from IPython.core.error import UsageError

    with pytest.raises(UsageError, match="defines no function"):
        shell.run_cell_magic("reward", "", "x = 1")


def test_a_run_is_exported_as_one_file(shell, told, tmp_path):
    said = shell.run_line_magic("lightning", "export run.html").says
    text = (tmp_path / "run.html").read_text()
    assert "It opens in any browser" in said and "4 of 4 rollouts are in this file." in text and HOSTILE not in text
    assert (
        "No run run-x" in usage_error(shell, "export --run run-x other.html") and not (tmp_path / "other.html").exists()
    )


def test_commands_and_their_options_complete(shell):
    complete = lambda line: shell.complete(None, line, len(line))[1]  # noqa: E731
    assert complete("%lightning ro") == ["rollouts"] and "inspect" in complete("%lightning ")
    assert "--task_id" in complete("%lightning rollouts --t")


def test_the_doctor_tells_in_words(shell):
    found = shell.run_line_magic("lightning", "doctor --endpoint http://127.0.0.1:9/v1")
    by = {f.check: f for f in found.found}
    assert by["loop"].level == "ok" and by["endpoint"].level == "problem" and "does not answer" in by["endpoint"].says
    assert not found.ok and "<table>" in found._repr_html_()


def test_a_model_call_in_dev_goes_through_the_proxy(shell):
    shell.user_ns["model"] = ScriptedModel(["It is 42."])
    shell.user_ns["given"] = {"llm": LLM("sim-script")}
    shell.run_line_magic("lightning", "start --upstream model")
    cell = (
        "import openai\nfrom agentlightning_nb.litagent import rollout\n@rollout\ndef asks(task, llm):\n"
        "    with openai.OpenAI(base_url=llm.base_url, api_key=llm.api_key) as client:\n"
        "        said = client.chat.completions.create(model=llm.model, messages=[{'role': 'user', 'content': task.input}])\n"
        "    return float('42' in said.choices[0].message.content)\n"
    )
    done = shell.run_cell_magic("lightning", "dev --task \"'6 * 7?'\" --resources given", cell)
    assert done.final_reward == 1.0 and len(done.traces) >= 1


class Endpoint(BaseHTTPRequestHandler):
    "An endpoint that lists `vllm` as the owner of its model and gives no token ids; a strict one refuses what it does not know."

    strict = False

    def do_GET(self):
        self.told(200, {"data": [{"id": "m", "owned_by": "vllm"}]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.strict and "return_token_ids" in asked:
            return self.told(400, {"error": "unknown field return_token_ids"})
        return self.told(200, {"choices": [{"message": {"role": "assistant", "content": "yes"}}]})

    def told(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def test_the_doctor_tries_each_of_several_endpoints():
    told = doctor(endpoint=["http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"], smoke=False)
    says = [f.says for f in told.found if f.check == "endpoint"]
    assert len(says) == 2 and ":9/v1" in says[0] and ":10/v1" in says[1]
    args = make_parser().parse_args(["doctor", "--endpoint", "http://a/v1", "http://b/v1"])
    assert args.endpoint == ["http://a/v1", "http://b/v1"]


@pytest.mark.parametrize("strict", [False, True])
def test_the_doctor_tries_an_endpoint_instead_of_believing_it(strict):
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Endpoint", (Endpoint,), {"strict": strict})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            found = {f.check: f for f in check_endpoint(f"http://127.0.0.1:{server.server_port}/v1")}
        finally:
            server.shutdown()
            thread.join(10)
    assert found["endpoint"].level == "ok" and found["token ids"].level == "note"
    assert found["token ids"].says == "a call of m gave no token ids"


def test_the_doctor_sees_token_ids_where_they_are_and_a_wrong_key(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path))
    with (
        LightningStore() as store,
        AgentLightningServer(store, upstream=ScriptedModel([Answer("yes", logprob=-0.1)], name="sim-ids")) as server,
    ):
        found = {f.check: f for f in check_endpoint(f"{server.url}/v1", server.token)}
        assert (found["token ids"].level, found["endpoint"].level) == ("ok", "ok")
        (wrong,) = check_endpoint(f"{server.url}/v1", "a guess")
        assert wrong.level == "problem" and "answers 401" in wrong.says and "OPENAI_API_KEY" in wrong.do
        (wrong,) = check_endpoint(f"{server.url}/v2", server.token)
        assert wrong.level == "problem" and "ends with /v1" in wrong.do
