"What the store does beside its work: copying commits into the file, and writing anew what was read in another's names."

import json
import shutil
import sqlite3
import threading

from waiting import until

from agentlightning_nb.otlp.intake import decode
from agentlightning_nb.storage.settling import SETTLE, settle_values
from agentlightning_nb.storage.spans import SELECT_SPAN, settled
from agentlightning_nb.store import LightningStore

SAID = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "tiny",
    "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"2+2?"}]}]',
    "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"4"}],"finish_reason":"stop"}]',
}


def received(store, started, numbers, attributes=SAID):
    "Spans as an instrumentation sends them."
    fields = [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()]
    spans = [{"traceId": "0a" * 16, "spanId": f"{i:016x}", "name": "a call", "attributes": fields} for i in numbers]
    ids = {"rollout_id": started.rollout_id, "attempt_id": started.attempt.attempt_id}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    store.add_incoming(decode(body, "application/json", **ids).incoming)


def rows(path):
    with sqlite3.connect(path) as conn:
        return conn.execute(SELECT_SPAN + " ORDER BY s.sequence_id").fetchall()


def waiting(path):
    return [row for row in rows(path) if row[12] and "received" in row[12]]


def test_what_was_read_in_anothers_names_is_written_in_ours_when_there_is_time(tmp_path):
    with LightningStore(path := tmp_path / "s.db") as store:
        started = store.start_rollout("q")
        received(store, started, range(1, 251))
        assert len(waiting(path)) == 250  # nobody has asked
        before = store.query_spans(started.rollout_id).items
        until(lambda: not waiting(path))
        assert store.query_spans(started.rollout_id).items == before
        assert json.loads(json.loads(rows(path)[0][11])["gen_ai.input.messages"]) == [
            {"role": "user", "content": "2+2?"}
        ]
        assert before[0].attributes["gen_ai.response.finish_reasons"] == ["stop"]


def test_pages_and_the_wire_are_the_same_before_and_after(tmp_path):
    from agentlightning_nb.storage.queries import SpanQuery

    with LightningStore(path := tmp_path / "s.db") as store:
        started = store.start_rollout("q")
        received(store, started, (1, 2, 3))
        told = json.loads(store.spans_json(SpanQuery(started.rollout_id)))
        until(lambda: not waiting(path))
        assert json.loads(store.spans_json(SpanQuery(started.rollout_id))) == told


def test_a_span_that_was_told_anew_meanwhile_stays_as_it_is(tmp_path):
    with LightningStore(path := tmp_path / "s.db") as store:
        started = store.start_rollout("q")
        received(store, started, (1,))
        (row,) = rows(path)
        received(store, started, (1,), SAID | {"agl.retry_count": "1", "gen_ai.request.model": "other"})
        done = threading.Event()

        def late(turn):
            turn.execute(SETTLE, settle_values(row, settled(row)))
            done.set()

        store._writer.when_idle(late)
        assert done.wait(30)
        (span,) = store.query_spans(started.rollout_id)
        assert span.attributes["gen_ai.request.model"] == "other"


def test_idle_work_that_fails_harms_nobody_and_what_is_left_at_the_end_is_dropped(tmp_path):
    with LightningStore(tmp_path / "s.db") as store:
        ran = []
        for i in range(100):
            store._writer.when_idle(lambda turn, i=i: ran.append(i) or turn.execute("NO SQL"))
        until(lambda: ran)
        assert store.start_rollout("still here").status == "preparing"
    assert len(ran) <= 100


def test_commits_reach_the_file_without_a_writer_that_waits(tmp_path):
    with LightningStore(path := tmp_path / "s.db") as store:
        started = store.start_rollout("q")

        def kept():
            shutil.copy(path, tmp_path / "copy.db")  # without the log
            try:
                with sqlite3.connect(tmp_path / "copy.db") as conn:
                    return conn.execute("SELECT rollout_id FROM rollout").fetchall() == [(started.rollout_id,)]
            except sqlite3.Error:
                return False  # caught in the middle of a copy

        until(kept)


def test_a_closed_store_is_one_file(tmp_path):
    for _ in range(2):
        with LightningStore(tmp_path / "s.db") as store:
            store.start_rollout("q")
        assert [p.name for p in tmp_path.iterdir()] == ["s.db"]
        assert not [t.name for t in threading.enumerate() if str(tmp_path) in t.name]
