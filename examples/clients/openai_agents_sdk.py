"""An agent of the OpenAI Agents SDK, which speaks the responses API.

    pip install openai-agents 'agentlightning_nb[notebook]'
    OPENAI_BASE_URL=http://localhost:8001/v1 OPENAI_API_KEY=... MODEL=my-model python examples/clients/openai_agents_sdk.py

Every model call passes the proxy of this process on its way there and is recorded with its rollout.
"""

import os

import openai
from agents import Agent, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled

from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

TASKS = [{"question": "What is 17 * 23?", "answer": "391"}, {"question": "What is 40 + 2?", "answer": "42"}]


set_tracing_disabled(True)  # its own traces would go to its maker


@function_tool
def multiply(a: int, b: int) -> int:
    "a times b"
    return a * b


@rollout
async def agent(task, llm):
    async with openai.AsyncOpenAI(base_url=llm.base_url, api_key=llm.api_key) as client:
        model = OpenAIResponsesModel(model=llm.model, openai_client=client)
        calculating = Agent(name="calculator", instructions="Be brief.", model=model, tools=[multiply])
        result = await Runner.run(calculating, task.input["question"], max_turns=3)
    return float(task.input["answer"] in result.final_output)


if __name__ == "__main__":
    with Trainer(n_workers=2, upstream=os.environ["OPENAI_BASE_URL"]) as trainer:
        rewards = trainer.evaluate(agent, TASKS, {"llm": LLM(os.environ.get("MODEL", "gpt-5-mini"))})
        print(rewards[["input", "reward", "status", "error"]])
