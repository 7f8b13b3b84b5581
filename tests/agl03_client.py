"Drive every verb of agent-lightning 0.3's own client against the server whose URL is given; run by its interpreter, not ours."

import asyncio
import sys

from agentlightning.store.client_server import LightningStoreClient
from agentlightning.types import (
    LLM,
    EnqueueRolloutRequest,
    OtelResource,
    PromptTemplate,
    RolloutConfig,
    Span,
    TraceStatus,
)


def span(rollout_id, attempt_id, number):
    return Span(
        rollout_id=rollout_id,
        attempt_id=attempt_id,
        sequence_id=number,
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_id=None,
        name="work",
        status=TraceStatus(status_code="OK"),
        attributes={"n": number},
        events=[],
        links=[],
        start_time=1.0,
        end_time=2.0,
        context=None,
        parent=None,
        resource=OtelResource(attributes={}, schema_url=""),
    )


async def resources_and_workers(client):
    llm = LLM(endpoint="http://localhost:9/v1", model="m", sampling_parameters={"temperature": 0.5})
    added = await client.add_resources({"llm": llm, "prompt": PromptTemplate(template="{x}", engine="f-string")})
    assert (await client.get_latest_resources()).resources["llm"] == llm
    assert (await client.get_resources_by_id(added.resources_id)).resources == added.resources
    await client.update_resources(added.resources_id, {"llm": llm})
    assert (await client.query_resources()).total >= 1 and await client.get_resources_by_id("nope") is None
    await client.update_worker("w1", {"cpu": 1})
    assert (await client.get_worker_by_id("w1")).heartbeat_stats == {"cpu": 1}
    assert (await client.query_workers()).total == 1
    return added.resources_id


async def one_rollout(client, resources_id):
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"])
    queued = await client.enqueue_rollout({"q": 1}, mode="train", resources_id=resources_id, config=config)
    claimed = await client.dequeue_rollout(worker_id="w1")
    assert claimed.rollout_id == queued.rollout_id and claimed.attempt.worker_id == "w1"
    await client.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="failed")
    again = await client.dequeue_rollout(worker_id="w1")
    ids = (again.rollout_id, again.attempt.attempt_id)
    assert again.attempt.sequence_id == 2
    number = await client.get_next_span_sequence_id(*ids)
    assert await client.get_many_span_sequence_ids([ids]) == [number + 1]
    assert (await client.add_span(span(*ids, number))).sequence_id == number
    assert len(await client.add_many_spans([span(*ids, number + 1), span(*ids, number + 2)])) == 2
    found = await client.query_spans(ids[0], "latest", name_contains="wor")
    assert [s.attributes["n"] for s in found] == [number, number + 1, number + 2]
    assert (await client.get_latest_attempt(ids[0])).status == "running"
    await client.update_attempt(ids[0], "latest", status="succeeded", metadata={"k": "v"})
    (done,) = await client.wait_for_rollouts(rollout_ids=[ids[0]], timeout=0.05)
    assert done.status == "succeeded" and (await client.query_attempts(ids[0])).total == 2


async def others(client):
    many = await client.enqueue_many_rollouts([EnqueueRolloutRequest(input=i) for i in range(3)])
    assert len(await client.dequeue_many_rollouts(limit=3, worker_id="w1")) == 3
    assert await client.dequeue_rollout() is None
    started = await client.start_rollout("by hand", metadata={"a": 1})
    assert (await client.start_attempt(started.rollout_id)).attempt.sequence_id == 2
    await client.update_rollout(many[0].rollout_id, status="cancelled", metadata={"b": 2})
    cancelled = await client.query_rollouts(status_in=["cancelled"])
    assert [r.rollout_id for r in cancelled] == [many[0].rollout_id] and cancelled[0].metadata == {"b": 2}
    assert await client.get_rollout_by_id("nope") is None
    assert (await client.query_rollouts(limit=2, sort_by="start_time", sort_order="desc")).total == 5
    assert (await client.statistics())["name"]


async def main(url):
    client = LightningStoreClient(url, retry_delays=(), health_retry_delays=())
    try:
        await one_rollout(client, await resources_and_workers(client))
        await others(client)
    finally:
        await client.close()
    sys.stdout.write("every verb works\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
