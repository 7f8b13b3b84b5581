"What changes is told as it changes: in this process, and over HTTP with resume, heartbeats and bounded memory."

import http.client
import itertools
import threading
from urllib.parse import urlsplit

import pytest
from waiting import until

from agentlightning_nb.client import LightningClient
from agentlightning_nb.errors import BadRequestError, ServerError, UnauthorizedError
from agentlightning_nb.event_routes import Ring
from agentlightning_nb.events import Event
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import PromptTemplate, RolloutConfig, Span


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path / "home"))


@pytest.fixture
def served():
    with LightningStore() as store, AgentLightningServer(store) as server:
        with LightningClient(server.url, server.token) as client:
            yield store, server, client


def span_of(claimed, n=1):
    ids = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id}
    return Span(**ids, sequence_id=0, trace_id=f"{n:032x}", span_id=f"{n:016x}", name="work")


def live(store):
    "One rollout's life and what belongs to it."
    store.add_run("run-1", algorithm="grpo")
    store.add_resources({"p": PromptTemplate(template="x", engine="f-string")})
    made = store.enqueue_rollout(1, run_id="run-1", step=0)
    claimed = store.dequeue_rollout("w1")
    store.add_span(span_of(claimed))
    store.finish_attempt(made.rollout_id, claimed.attempt.attempt_id, reward=0.5)
    store.add_metrics("run-1", 0, {"reward": 0.5})
    store.update_run("run-1", status="succeeded", end=True)
    return made


STORY = [
    ("run", "running"),
    ("resources", None),
    ("rollout", "queuing"),
    ("attempt", "preparing"),
    ("rollout", "preparing"),
    ("span", "UNSET"),
    ("attempt", "running"),
    ("rollout", "running"),
    ("attempt", "succeeded"),
    ("rollout", "succeeded"),
    ("metric", None),
    ("run", "succeeded"),
]


def test_a_listener_hears_everything_in_order_and_nothing_afterwards(tmp_path):
    heard = []
    with LightningStore(tmp_path / "store.db") as store:
        stop = store.subscribe(heard.extend)
        made = live(store)
        stop()
        store.enqueue_rollout(2)
        with store._readers.connection() as conn:  # and a store that nobody watches has no triggers
            assert not conn.execute("SELECT 1 FROM sqlite_master WHERE type = 'trigger'").fetchall()
    told = [(e.kind, e.data.get("status")) for e in heard if e.kind != "worker"]
    assert told == STORY
    last = [e for e in heard if e.kind == "rollout"][-1]
    assert last.data["rollout_id"] == made.rollout_id and last.data["reward"] == 0.5 and last.data["step"] == 0
    assert [int(e.id) for e in heard] == list(range(1, len(heard) + 1))


def test_a_time_out_is_told_too():
    ended = threading.Event()

    def listener(events):
        if any(e.kind == "attempt" and e.data["status"] == "timeout" for e in events):
            ended.set()

    with LightningStore() as store:
        store.subscribe(listener)
        store.enqueue_rollout(1, config=RolloutConfig(timeout_seconds=0.05))
        store.dequeue_rollout()
        assert ended.wait(20)


def test_a_listener_that_raises_disturbs_nobody():
    heard = []
    with LightningStore() as store:
        store.subscribe(lambda events: 1 / 0)
        stop = store.subscribe(heard.extend)
        store.enqueue_rollout(1)
        stop()  # what was acknowledged before has been told by then
        assert len(heard) == 1 and store.statistics()["total_rollout"] == 1


def test_refused_changes_are_not_told():
    heard = []
    with LightningStore() as store:
        store.subscribe(heard.extend)
        with pytest.raises(LookupError):
            store.enqueue_rollout(1, resources_id="nope")
        assert heard == []


def test_a_readonly_store_says_that_it_sees_no_changes(tmp_path):
    LightningStore(tmp_path / "s.db").close()
    with LightningStore(tmp_path / "s.db", readonly=True) as store, pytest.raises(BadRequestError, match="readonly"):
        store.subscribe(print)


def reading(client, n, **options):
    "A thread that takes n events; begun when the server has its reader."
    got: list[Event] = []
    thread = threading.Thread(target=lambda: got.extend(itertools.islice(client.events(**options), n)), daemon=True)
    thread.start()
    return thread, got


def until_read(server):
    "Wait until somebody reads; the server's ring knows."
    until(lambda: server.app.state.ring.readers)


def test_events_arrive_over_http(served):
    store, server, client = served
    thread, got = reading(client, len(STORY), kinds=["run", "resources", "rollout", "attempt", "span", "metric"])
    until_read(server)
    live(store)
    thread.join(20)
    assert [(e.kind, e.data.get("status")) for e in got] == STORY
    again = list(itertools.islice(client.events(kinds=["rollout"], last_event_id=got[4].id), 2))
    assert [e.data["status"] for e in again] == ["running", "succeeded"]  # those after the one it saw


def test_an_id_of_another_time_is_answered_by_a_reset(served):
    store, server, client = served
    assert next(client.events(last_event_id="gone-7")).kind == "reset"


def test_a_reader_that_falls_behind_is_dropped_with_a_sentence_and_the_writer_never_waits(served):
    store, server, client = served
    ring = server.app.state.ring
    stream = client.events(kinds=["rollout"])
    store_events = threading.Thread(target=lambda: next(stream), daemon=True)
    store_events.start()
    until_read(server)
    store.enqueue_rollout(0)
    store_events.join(20)
    with ring._lock:  # as if far more had come than is kept
        ring.last += ring.kept + 1
    store.enqueue_rollout(1)
    with pytest.raises(ServerError, match="fell behind"):
        for _ in range(3):
            next(stream)


def test_a_ring_is_bounded():
    ring = Ring(None, kept=10)
    ring._loop = type("Loop", (), {"call_soon_threadsafe": lambda *a: None})()
    ring.hear([Event(str(i), "span", {}) for i in range(1000)])
    assert len(ring.events) == 10 and ring.after(989) is None and len(ring.after(990)) == 10


def test_streams_end_when_the_server_stops_and_go_on_when_it_is_back(served):
    store, server, client = served
    thread, got = reading(client, 2, kinds=["rollout"])
    until_read(server)
    store.enqueue_rollout(1)
    until(lambda: got or server.app.state.ring.last)
    server.stop()
    server.start()
    until_read(server)
    store.enqueue_rollout(2)
    thread.join(20)
    assert not thread.is_alive() and len(got) == 2


def test_events_need_the_token_and_known_kinds(served):
    _, server, client = served
    with LightningClient(server.url, "wrong") as stranger, pytest.raises(UnauthorizedError):
        next(stranger.events())
    with pytest.raises(BadRequestError, match="no kind of event"):
        next(client.events(kinds=["weather"]))


def test_the_stream_is_what_browsers_expect(served):
    store, server, _ = served
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    connection.request("GET", "/v1/agl/events", headers={"Authorization": f"Bearer {server.token}"})
    reply = connection.getresponse()
    assert reply.getheader("content-type").startswith("text/event-stream")
    assert reply.readline().startswith(b"id: ") and reply.readline() == b": here\n" and reply.readline() == b"\n"
    store.enqueue_rollout(1)
    assert [reply.readline().split(b":")[0] for _ in range(4)] == [b"id", b"event", b"data", b"\n"]
    connection.close()
