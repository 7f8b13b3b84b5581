"""A tool-calling agent of smolagents, which has to call a tool every time, `final_answer` at the end.

    pip install 'smolagents[openai]' 'agentlightning_nb[notebook]'
    OPENAI_BASE_URL=http://localhost:8001/v1 OPENAI_API_KEY=... MODEL=my-model python examples/clients/smolagents_tool_calling.py

Every model call passes the proxy of this process on its way there and is recorded with its rollout.
"""

import os

from smolagents import LogLevel, OpenAIServerModel, ToolCallingAgent, tool

from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

TASKS = [{"question": "What is 17 * 23?", "answer": "391"}, {"question": "What is 40 + 2?", "answer": "42"}]


@tool
def multiply(a: int, b: int) -> int:
    """a times b

    Args:
        a: a number
        b: another number
    """
    return a * b


@rollout
def agent(task, llm):
    model = OpenAIServerModel(model_id=llm.model, api_base=llm.base_url, api_key=llm.api_key)
    calculating = ToolCallingAgent([multiply], model, max_steps=4, verbosity_level=LogLevel.OFF)
    return float(task.input["answer"] in str(calculating.run(task.input["question"])))


if __name__ == "__main__":
    with Trainer(n_workers=2, upstream=os.environ["OPENAI_BASE_URL"]) as trainer:
        rewards = trainer.evaluate(agent, TASKS, {"llm": LLM(os.environ.get("MODEL", "gpt-5-mini"))})
        print(rewards[["input", "reward", "status", "error"]])
