"""Runs one example under a simulated model and prints, as JSON, what was earned, recorded and asked: `run_example.py NAME`.

Needs the core and the example's own client only, so that it runs in an environment of that client's."""

import importlib.util
import json
import re
import sys
from pathlib import Path

from agentlightning_nb.testing import Answer, Call, ScriptedModel
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

EXAMPLES = Path(__file__).parent.parent / "examples" / "clients"


def text_of(message):
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(p.get("text", "") for p in content)


def rules(body):
    "Calls a multiplication tool if there is one, says what a tool told, else reckons itself; ends by a tool where it has to."
    *_, last = [m for m in body["messages"] if m["role"] != "system"]
    names = {t["function"]["name"] for t in body.get("tools") or []}
    asked = [m for m in body["messages"] if m["role"] == "user" and re.search(r"\d+ [*+] \d+", text_of(m))]
    a, sign, b = re.findall(r"(\d+) ([*+]) (\d+)", text_of(asked[-1]))[-1]
    told = last["role"] == "tool" or last is not asked[-1]
    if told:
        result = re.findall(r"\d+", text_of(last))[-1]
    elif "multiply" in names and sign == "*":
        return Answer(calls=(Call("multiply", {"a": int(a), "b": int(b)}),))
    else:
        result = int(a) * int(b) if sign == "*" else int(a) + int(b)
    if body.get("tool_choice") == "required":
        return Answer(calls=(Call("final_answer", {"answer": f"It is {result}."}),))
    return f"It is {result}."


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name):
    "What each rollout of an example came to, and every request that reached the model."
    example, model = load(name), ScriptedModel(rules, name="sim-rules")
    with Trainer(n_workers=2, upstream=model) as trainer:
        rollouts = trainer.evaluate_rollouts(example.agent, example.TASKS, {"llm": LLM("sim-rules")}, timeout_s=60)
        shown = [
            {
                "question": r.task.input["question"],
                "status": r.status,
                "reward": r.final_reward,
                "error": None if r.error is None else str(r.error),
                "triplets": [[t.prompt_ids, t.response_ids] for t in r.triplets],
                "calls": [s.attributes for s in r.traces if s.name.startswith("chat ")],
            }
            for r in rollouts
        ]
    return {"rollouts": shown, "requests": model.requests}


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(run(sys.argv[1])))
