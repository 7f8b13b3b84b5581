"""agent-lightning 0.3's own APO on the simulated desk, with its own code, prompts and defaults; run by an interpreter that has agentlightning==0.3.0
and poml, beside `prompt_search.py --agl03 PYTHON`, which serves the simulated models and measures what was found.

Its store and its algorithm are its own. The loop that answers the tasks stands here: it asks the simulated clerk and records what 0.3's tracer would, the
call, a grader's word and the reward. It edits one prompt template and no tool description.
"""

import asyncio
import json
import logging
import random
import sys

from agentlightning.adapter import TraceToMessages
from agentlightning.algorithm.apo import APO
from agentlightning.store.memory import InMemoryLightningStore
from agentlightning.types import OtelResource, PromptTemplate, Span, TraceStatus
from openai import AsyncOpenAI


def span(claimed, number, name, attributes):
    ids = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id, "sequence_id": number}
    bare = {
        "events": [],
        "links": [],
        "start_time": float(number),
        "end_time": number + 0.5,
        "parent_id": None,
        "context": None,
        "parent": None,
    }
    named = {"trace_id": "1" * 32, "span_id": f"{number:016x}", "name": name, "attributes": attributes}
    return Span(
        **ids,
        **bare,
        **named,
        status=TraceStatus(status_code="OK"),
        resource=OtelResource(attributes={}, schema_url=""),
    )


def chat(asked, said):
    told = {"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": asked}
    return told | {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": said}


async def answered(store, client, claimed, tool):
    "One rollout of the desk's agent."
    template = (await store.get_resources_by_id(claimed.resources_id)).resources["system"].template
    try:
        asked = template.format(question=f"({claimed.input['topic']}, no. {claimed.input['number']})")
        reply = await client.chat.completions.create(
            model="sim-clerk", messages=[{"role": "user", "content": asked}], tools=[tool]
        )
        said = reply.choices[0].message.content
    except Exception as e:  # an edit that breaks the template fails its rollout
        await store.update_attempt(
            claimed.rollout_id, claimed.attempt.attempt_id, status="failed", metadata={"why": str(e)}
        )
        return
    word = "right" if said == "right" else f"Wrong: the handbook has a rule for {claimed.input['topic']}."
    reward = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": float(said == "right")}
    parts = [
        ("chat", chat(asked, said)),
        ("chat", chat("Grade the answer.", word)),
        ("agentlightning.annotation", reward),
    ]
    for number, (name, attributes) in enumerate(parts, 1):
        await store.add_span(span(claimed, number, name, attributes))
    await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")


async def work(store, client, tool, done):
    while True:
        claimed = await store.dequeue_rollout()
        if claimed is None:
            await asyncio.sleep(0.05)
            continue
        done.append(claimed.rollout_id)
        await answered(store, client, claimed, tool)


async def main(told):
    random.seed(told["seed"])
    client = AsyncOpenAI(base_url=told["url"] + "/v1", api_key=told["token"], max_retries=0)
    store, done = InMemoryLightningStore(), []
    apo = APO(client, gradient_model="sim-critic", apply_edit_model="sim-editor")
    adapter, first = (
        TraceToMessages(),
        {"system": PromptTemplate(template=told["system"], engine="f-string")},
    )  # it holds them weakly
    apo.set_store(store), apo.set_adapter(adapter), apo.set_initial_resources(first)
    workers = [asyncio.create_task(work(store, client, told["tool"], done)) for _ in range(8)]
    await apo.run(train_dataset=told["tasks"], val_dataset=told["val_tasks"])
    for worker in workers:
        worker.cancel()
    print(json.dumps({"system": apo.get_best_prompt().template, "rollouts": len(done)}))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asyncio.run(main(json.loads(sys.stdin.read())))
