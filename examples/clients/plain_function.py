"""An agent that is a plain function, with no framework at all.

    pip install 'agentlightning_nb[notebook]'
    OPENAI_BASE_URL=http://localhost:8001/v1 OPENAI_API_KEY=... MODEL=my-model python examples/clients/plain_function.py

Every model call passes the proxy of this process on its way there and is recorded with its rollout.
"""

import json
import os
import urllib.request

from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

TASKS = [{"question": "What is 17 * 23?", "answer": "391"}, {"question": "What is 40 + 2?", "answer": "42"}]


@rollout
def agent(task, llm):
    body = {"model": llm.model, "messages": [{"role": "user", "content": task.input["question"]}]}
    head = {"Authorization": f"Bearer {llm.api_key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{llm.base_url}/chat/completions", json.dumps(body).encode(), head)
    with urllib.request.urlopen(request, timeout=60) as reply:
        said = json.load(reply)["choices"][0]["message"]["content"]
    return float(task.input["answer"] in said)


if __name__ == "__main__":
    with Trainer(n_workers=2, upstream=os.environ["OPENAI_BASE_URL"]) as trainer:
        rewards = trainer.evaluate(agent, TASKS, {"llm": LLM(os.environ.get("MODEL", "gpt-5-mini"))})
        print(rewards[["input", "reward", "status", "error"]])
