"""An AutoGen assistant with a tool, whose answer after the tool is a second call without tools.

    pip install autogen-agentchat 'autogen-ext[openai]' 'agentlightning_nb[notebook]'
    OPENAI_BASE_URL=http://localhost:8001/v1 OPENAI_API_KEY=... MODEL=my-model python examples/clients/autogen_agentchat.py

Every model call passes the proxy of this process on its way there and is recorded with its rollout.
"""

import os

from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient

from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

TASKS = [{"question": "What is 17 * 23?", "answer": "391"}, {"question": "What is 40 + 2?", "answer": "42"}]


ABLE = {
    "vision": False,
    "function_calling": True,
    "json_output": False,
    "structured_output": False,
    "family": "unknown",
}


async def multiply(a: int, b: int) -> int:
    "a times b"
    return a * b


@rollout
async def agent(task, llm):
    client = OpenAIChatCompletionClient(model=llm.model, base_url=llm.base_url, api_key=llm.api_key, model_info=ABLE)
    assistant = AssistantAgent("calculator", model_client=client, tools=[multiply], reflect_on_tool_use=True)
    result = await assistant.run(task=task.input["question"])
    await client.close()
    return float(task.input["answer"] in result.messages[-1].to_text())


if __name__ == "__main__":
    with Trainer(n_workers=2, upstream=os.environ["OPENAI_BASE_URL"]) as trainer:
        rewards = trainer.evaluate(agent, TASKS, {"llm": LLM(os.environ.get("MODEL", "gpt-5-mini"))})
        print(rewards[["input", "reward", "status", "error"]])
