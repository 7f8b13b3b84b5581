"Agents and tasks for the tests of verl: small, multi-turn, defined as one would in a notebook."

import openai

from agentlightning_nb.litagent import rollout
from agentlightning_nb.types import AgentLightningTask
from agentlightning_nb.verl.cpu import on_cpu

TASKS = [AgentLightningTask(context=f"What is {i} + {i + 3}?") for i in range(8)]


def options(**settings) -> dict:
    "Arguments of VERL for this machine; a cluster that RAY_ADDRESS names has its own resources."
    import os

    given = on_cpu(**settings)
    return given | ({"ray": {}} if os.environ.get("RAY_ADDRESS") else {})


def digits(text: str | None) -> float:
    "The share of digits in a text of about twelve characters: something that a policy learns in a few steps."
    said = (text or "")[:12]
    return sum(c.isdigit() for c in said) / 12


@rollout
def asks_twice(task, llm):
    "Two turns of one conversation, then a question of its own that extends nothing."
    client = openai.OpenAI(base_url=llm.base_url, api_key=llm.api_key, max_retries=0, timeout=120)

    def say(messages):
        answer = client.chat.completions.create(model=llm.model, messages=messages, max_tokens=16)
        return answer.choices[0].message.content

    chat = [{"role": "user", "content": task.context}]
    first = say(chat)
    second = say([*chat, {"role": "assistant", "content": first}, {"role": "user", "content": "Sure?"}])
    other = say([{"role": "user", "content": "Say a number."}])
    return (digits(first) + digits(second) + digits(other)) / 3


@rollout
def asks_once(task, llm):
    "One turn."
    client = openai.OpenAI(base_url=llm.base_url, api_key=llm.api_key, max_retries=0, timeout=120)
    messages = [{"role": "user", "content": task.context}]
    answer = client.chat.completions.create(model=llm.model, messages=messages, max_tokens=16)
    return digits(answer.choices[0].message.content)
