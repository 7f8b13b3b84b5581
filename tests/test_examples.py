"Each example, run as it stands: its framework's own client, a real server, and an engine that answers as a simulated model."

import importlib.util
import json
import re
from pathlib import Path

import pytest

from agentlightning_nb.engines.base import Reply
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

EXAMPLES = Path(__file__).parent.parent / "examples"
NEEDS = {
    "openai_chat": "openai",
    "openai_stream": "openai",
    "openai_responses": "openai",
    "openai_agents_sdk": "agents",
    "langgraph_react": "langgraph",
    "anthropic_messages": "anthropic",
}
TOOLS = {"openai_chat", "openai_agents_sdk", "langgraph_react"}
DIALECT = {"openai_responses": "responses", "openai_agents_sdk": "responses", "anthropic_messages": "messages"}


class Simulated:
    "Follows rules: calls a multiplication tool if there is one, says what a tool told, else reckons itself."

    models = ["sim-rules"]

    def message(self, body):
        last = body["messages"][-1]
        text = last["content"] if isinstance(last["content"], str) else last["content"][0]["text"]
        if last["role"] == "tool":
            return {"role": "assistant", "content": f"It is {text}."}
        a, sign, b = re.search(r"(\d+) ([*+]) (\d+)", text).groups()
        if body.get("tools") and sign == "*":
            function = {"name": "multiply", "arguments": json.dumps({"a": int(a), "b": int(b)})}
            call = {"id": "call_1", "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"role": "assistant", "content": f"It is {int(a) * int(b) if sign == '*' else int(a) + int(b)}."}

    async def chat(self, body, *, session=None):
        message = self.message(body)
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        choice = {"index": 0, "message": message, "finish_reason": reason}
        told = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "sim-rules"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return Reply(told | {"choices": [choice], "usage": usage}, [1, 2, 3], [4, 5], [-0.5, -0.25])

    async def stream(self, body, *, session=None):
        reply = await self.chat(body)
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "sim-rules"}
        for word in re.findall(r"\S+\s*", reply.body["choices"][0]["message"]["content"]):
            yield {**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        yield {**head, "choices": [], "usage": reply.body["usage"]}
        yield reply


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run_here():
    assert {p.stem for p in EXAMPLES.glob("*.py")} == set(NEEDS)


@pytest.mark.parametrize("name", NEEDS)
def test_an_example_earns_its_reward_and_every_call_is_recorded(name):
    pytest.importorskip(NEEDS[name])
    example = load(name)
    with Trainer(n_workers=2, upstream=Simulated()) as trainer:
        rollouts = trainer.evaluate_rollouts(example.agent, example.TASKS, {"llm": LLM("sim-rules")}, timeout_s=60)
        assert [(r.status, r.final_reward) for r in rollouts] == [("succeeded", 1.0)] * 2, [r.error for r in rollouts]
        for r, calls in zip(rollouts, (2 if name in TOOLS else 1, 1), strict=True):
            spans = [s for s in r.traces if s.name.startswith("chat ")]
            assert len(spans) == len(r.triplets) == calls
            for span in spans:
                assert span.attributes["agl.dialect"] == DIALECT.get(name, "chat")
                assert span.attributes["response_token_ids"] == [4, 5]
                assert span.attributes["gen_ai.usage.input_tokens"] == 3
            asked = [m for m in json.loads(spans[0].attributes["gen_ai.input.messages"]) if m["role"] == "user"]
            assert r.task.input["question"] in json.dumps(asked)
