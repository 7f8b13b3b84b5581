"""OpenAI's client, chat completions with a tool.

    pip install openai 'agentlightning_nb[notebook]'
    OPENAI_BASE_URL=http://localhost:8001/v1 OPENAI_API_KEY=... MODEL=my-model python examples/clients/openai_chat.py

Every model call passes the proxy of this process on its way there and is recorded with its rollout.
"""

import json
import os

import openai

from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

TASKS = [{"question": "What is 17 * 23?", "answer": "391"}, {"question": "What is 40 + 2?", "answer": "42"}]


TOOL = {
    "type": "function",
    "function": {
        "name": "multiply",
        "description": "a times b",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}


@rollout
async def agent(task, llm):
    messages = [{"role": "user", "content": task.input["question"]}]
    async with openai.AsyncOpenAI(base_url=llm.base_url, api_key=llm.api_key) as client:
        for _ in range(3):
            reply = await client.chat.completions.create(
                model=llm.model, messages=messages, tools=[TOOL], **llm.sampling
            )
            message = reply.choices[0].message
            if not message.tool_calls:
                return float(task.input["answer"] in (message.content or ""))
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls:
                given = json.loads(call.function.arguments)
                result = {"role": "tool", "tool_call_id": call.id, "content": str(given["a"] * given["b"])}
                messages.append(result)
    return 0.0


if __name__ == "__main__":
    with Trainer(n_workers=2, upstream=os.environ["OPENAI_BASE_URL"]) as trainer:
        rewards = trainer.evaluate(agent, TASKS, {"llm": LLM(os.environ.get("MODEL", "gpt-5-mini"))})
        print(rewards[["input", "reward", "status", "error"]])
