"""A conversation of two AutoGen agents, of which one is trained: a clerk has to ask how many before it writes an order down.

Both are asked of the same model, and each says in a header who it is; only the calls of the clerk are trained."""

import hashlib
import random
import re
import ssl

import httpx2
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient

from agentlightning_nb.litagent import rollout

GOODS = ("soup", "rice", "fish", "tea", "bread", "salt")
TRAINED = ("clerk",)
TLS = ssl.create_default_context()  # made once: a client of its own for each rollout would spend 40 ms on it
ABLE = {
    "vision": False,
    "function_calling": False,
    "json_output": False,
    "structured_output": False,
    "family": "unknown",
}


def tasks(n: int, *, seed: int, held_out: bool = False) -> list[dict]:
    "n wishes; a fifth of all, by a hash, is held out."
    rng, found = random.Random(f"{seed}/{held_out}"), []
    while len(found) < n:
        wish = {"goods": rng.choice(GOODS), "number": rng.randint(2, 99)}
        if is_held_out(wish) == held_out:
            found.append(wish)
    return found


def is_held_out(wish: dict) -> bool:
    "Whether training must not see it."
    return hashlib.sha256(f"{wish['number']} {wish['goods']}".encode()).digest()[0] % 5 == 0


def client_of(name: str, llm) -> OpenAIChatCompletionClient:
    "A client that says with every call whose it is."
    head = {"X-Agent-Name": name}
    return OpenAIChatCompletionClient(
        model=llm.model,
        base_url=llm.base_url,
        api_key=llm.api_key,
        model_info=ABLE,
        default_headers=head,
        http_client=httpx2.AsyncClient(verify=TLS),
        **llm.sampling,
    )


@rollout
async def agent(task, llm):
    wish = task.input
    clients = {name: client_of(name, llm) for name in ("clerk", "customer")}
    wants = f"You are the customer. You want {wish['number']} {wish['goods']}."
    clerk = AssistantAgent("clerk", model_client=clients["clerk"], system_message="You are the clerk.")
    customer = AssistantAgent("customer", model_client=clients["customer"], system_message=wants)
    end = TextMentionTermination("Order:", sources=["clerk"]) | MaxMessageTermination(6)
    team = RoundRobinGroupChat([clerk, customer], termination_condition=end)
    result = await team.run(task=f"Some {wish['goods']}, please.")
    for client in clients.values():
        await client.close()
    return float(re.search(rf"Order: {wish['number']} {wish['goods']}\b", result.messages[-1].to_text()) is not None)


# for a tiny real model: lessons of which three quarters are bad for the clerk; the customer's are all good

FORKS = 1  # tokens at which good and bad lessons part


def lesson(rng: random.Random):
    from agentlightning_nb.rl.taught import Lesson

    (wish,) = tasks(1, seed=rng.randrange(10**9))
    first = {"role": "user", "content": f"Some {wish['goods']}, please."}
    asked, order = "How many?", f"Order: {wish['number']} {wish['goods']}"
    if rng.random() < 0.3:
        told = {"role": "system", "content": f"You are the customer. You want {wish['number']} {wish['goods']}."}
        return Lesson(
            [told, first, {"role": "user", "content": asked}, {"role": "assistant", "content": f"{wish['number']}."}]
        )
    told, right = {"role": "system", "content": "You are the clerk."}, rng.random() < 0.25
    if not right:
        return Lesson(
            [told, first, {"role": "assistant", "content": f"Order: {rng.randint(2, 99)} {wish['goods']}"}], right=False
        )
    heard = {"role": "user", "content": f"{wish['number']}."}
    return Lesson(
        [told, first, {"role": "assistant", "content": asked}, heard, {"role": "assistant", "content": order}]
    )
