"""Anthropic's client with a streamed answer, whatever model is behind the proxy.

    pip install anthropic 'agentlightning_nb[notebook]'
    OPENAI_BASE_URL=http://localhost:8001/v1 OPENAI_API_KEY=... MODEL=my-model python examples/clients/anthropic_messages.py

Every model call passes the proxy of this process on its way there and is recorded with its rollout.
"""

import os

import anthropic

from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

TASKS = [{"question": "What is 17 * 23?", "answer": "391"}, {"question": "What is 40 + 2?", "answer": "42"}]


@rollout
async def agent(task, llm):
    said = ""
    async with anthropic.AsyncAnthropic(base_url=llm.base_url, api_key=llm.api_key) as client:
        messages = [{"role": "user", "content": task.input["question"]}]
        async with client.messages.stream(
            model=llm.model, max_tokens=200, system="Be brief.", messages=messages
        ) as stream:
            async for text in stream.text_stream:
                said += text
    return float(task.input["answer"] in said)


if __name__ == "__main__":
    with Trainer(n_workers=2, upstream=os.environ["OPENAI_BASE_URL"]) as trainer:
        rewards = trainer.evaluate(agent, TASKS, {"llm": LLM(os.environ.get("MODEL", "gpt-5-mini"))})
        print(rewards[["input", "reward", "status", "error"]])
