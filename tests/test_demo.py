"The demo, from its command to what it leaves behind."

import asyncio
import json
import sqlite3

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from agentlightning_nb.cli import main  # noqa: E402
from agentlightning_nb.demo import CalculatorAgent, best_mean  # noqa: E402
from agentlightning_nb.engines.base import Reply  # noqa: E402
from agentlightning_nb.rl.tiny import REFUSAL, calculator_tasks, tool_call  # noqa: E402
from agentlightning_nb.server import AgentLightningServer  # noqa: E402
from agentlightning_nb.store import LightningStore  # noqa: E402
from agentlightning_nb.trainer import Trainer  # noqa: E402
from agentlightning_nb.types import LLM, AgentLightningTask  # noqa: E402


class Says:
    "An engine that says one message after the other."

    models = ["policy"]

    def __init__(self, *messages):
        self.messages, self.heard = list(messages), []

    async def chat(self, body, *, session=None):
        self.heard.append(body["messages"])
        message = self.messages.pop(0)
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
        return Reply({"object": "chat.completion", "choices": [choice]}, [1], [2], [0.0], None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def reward_of(engine, question, answer):
    with LightningStore() as store, AgentLightningServer(store, upstream=engine) as server:
        task = AgentLightningTask(input={"question": question, "answer": answer})
        return asyncio.run(Trainer(backend=server).dev(CalculatorAgent(), task, {"llm": LLM("policy")})).final_reward


def test_the_agent_calls_the_tool_and_reads_its_answer():
    engine = Says({"content": None, "tool_calls": [tool_call("17*23")]}, {"content": "391"})
    assert reward_of(engine, "What is 17 * 23?", 391) == 1.0
    assert engine.heard[1][-1] == {"role": "tool", "tool_call_id": "call", "content": "391"}


def test_nonsense_in_a_tool_call_is_told_to_the_model():
    broken = tool_call("1") | {"function": {"name": "calculator", "arguments": '{"expression": '}}
    engine = Says({"content": None, "tool_calls": [broken]}, {"content": "7"})
    assert reward_of(engine, "What is 1 + 2?", 3) == 0.0
    assert engine.heard[1][-1]["content"] == "error"


def test_a_guess_earns_nothing_a_right_refusal_half_and_endless_calls_nothing():
    assert reward_of(Says({"content": "Maybe 12."}), "What is 5 + 7?", 12) == 0.0
    assert reward_of(Says({"content": REFUSAL}), "Tell me a joke.", None) == 0.5
    again = {"content": None, "tool_calls": [tool_call("5+7")]}
    assert reward_of(Says(again, again, again), "What is 5 + 7?", 12) == 0.0


def test_held_out_questions_are_never_trained_on():
    train, held_out = calculator_tasks(2000), calculator_tasks(300, seed=1, held_out=True)
    assert not {t["question"] for t in train} & {t["question"] for t in held_out}
    assert 0.9 < best_mean(held_out) < 1.0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_leaves_a_store_a_checkpoint_and_a_curve(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--max-steps", "2", "--db", "mine.db"]) == 1  # two steps are not enough to learn it
    told = capsys.readouterr()
    assert "before" in told.out and "after 2 steps" in told.out and "GRPO" in told.err
    (checkpoint,) = tmp_path.glob("mine.files/*/step-00002")
    assert {"model.safetensors", "tokenizer.json", "optimizer.pt"} <= {p.name for p in checkpoint.iterdir()}
    page = (tmp_path / "demo-out" / "reward_curve.html").read_text()
    assert "agentlightning demo" in page and "src=" not in page and "@import" not in page
    rows = sqlite3.connect(tmp_path / "mine.db").execute("SELECT mode, status, count(*) FROM rollout GROUP BY 1, 2")
    counts = {(mode, status): n for mode, status, n in rows}
    assert counts == {("train", "succeeded"): 256, ("val", "succeeded"): 200, ("test", "succeeded"): 400}
    (attributes,) = (
        sqlite3.connect(tmp_path / "mine.db")
        .execute("SELECT count(*) FROM span WHERE name LIKE 'chat %' AND response_token_ids IS NOT NULL")
        .fetchone()
    )
    assert attributes >= 856, json.dumps(counts, default=str)
