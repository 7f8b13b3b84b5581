"What goes wrong with a store's file: killed writers, full disks, other writers, other versions."

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from agentlightning_nb.errors import BadRequestError, SchemaError, StoreError, StoreInUseError
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import Span

WRITER = """
    import sys, threading
    from agentlightning_nb.store import LightningStore
    from agentlightning_nb.types import Span

    store, say = LightningStore(sys.argv[1]), threading.Lock()

    def work(me):
        for i in range(1_000_000):
            row = store.start_rollout({"by": me, "i": i})
            ids = row.rollout_id, row.attempt.attempt_id
            store.add_span(Span(rollout_id=ids[0], attempt_id=ids[1], sequence_id=0, name="step", attributes={"i": i}))
            with say:
                print("span", ids[0], flush=True)
            store.finish_attempt(*ids, reward=float(i))
            with say:
                print("end", ids[0], i, flush=True)

    for me in range(3):
        threading.Thread(target=work, args=(me,)).start()
"""


@pytest.mark.slow
def test_kill_nine_loses_nothing_that_was_acknowledged(tmp_path):
    path, rng = tmp_path / "run.db", random.Random(0)
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER))
    acknowledged = []
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, script, path], stdout=subprocess.PIPE, text=True)
        lines = [writer.stdout.readline() for _ in range(rng.randrange(3, 150))]
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read()
        writer.wait(20)
        acknowledged += [line.split() for line in "".join(lines).splitlines() + rest.splitlines()[:-1]]
    with LightningStore(path) as store:
        rows = {r.rollout_id: r for r in store.query_rollouts()}
        for what, rollout_id, *reward in acknowledged:
            if what == "end":
                assert (rows[rollout_id].status, rows[rollout_id].reward) == ("succeeded", float(reward[0]))
            else:
                assert [s.name for s in store.query_spans(rollout_id)] == ["step"]
        assert sum(what == "end" for what, *_ in acknowledged) > 50
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_is_said_keeps_nothing_by_halves_and_ends_when_there_is_room(tmp_path):
    with LightningStore(tmp_path / "run.db") as store:
        row = store.start_rollout("x")
        ids = {"rollout_id": row.rollout_id, "attempt_id": row.attempt.attempt_id}
        used = store._writer.conn.execute("PRAGMA page_count").fetchone()[0]
        store._writer.conn.execute(f"PRAGMA max_page_count = {used + 2}")
        large = [Span(**ids, sequence_id=i, name="s", attributes={"text": "x" * 50_000}) for i in range(1, 4)]
        with pytest.raises(StoreError, match="full; nothing of this operation was kept"):
            store.finish_attempt(row.rollout_id, row.attempt.attempt_id, reward=1.0, spans=large)
        assert store.get_rollout_by_id(row.rollout_id).status == "preparing"
        assert list(store.query_spans(row.rollout_id)) == []
        store._writer.conn.execute("PRAGMA max_page_count = 1000000")
        store.finish_attempt(row.rollout_id, row.attempt.attempt_id, reward=1.0, spans=large)
        assert len(store.query_spans(row.rollout_id)) == 3


def test_one_that_does_not_fit_takes_nobody_with_it(tmp_path):
    with LightningStore(tmp_path / "run.db") as store:
        store.enqueue_rollout("first")
        used = store._writer.conn.execute("PRAGMA page_count").fetchone()[0]
        store._writer.conn.execute(f"PRAGMA max_page_count = {used + 2}")
        futures = [
            store.submit("enqueue_many_rollouts", [{"input": text}]) for text in ("small", "x" * 200_000, "also small")
        ]
        outcomes = [f.exception(30) for f in futures]
        assert [type(e) for e in outcomes] == [type(None), StoreError, type(None)]
        assert [r.input for r in store.query_rollouts()] == ["first", "small", "also small"]


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "run.db"
    LightningStore(path).close()
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA user_version = 9999")
    conn.close()
    before = path.read_bytes()
    for readonly in (False, True):
        with pytest.raises(SchemaError, match="newer"):
            LightningStore(path, readonly=readonly)
    assert path.read_bytes() == before


def test_another_process_that_writes_is_named(tmp_path):
    path = tmp_path / "run.db"
    hold = "import sys, time; from agentlightning_nb.store import LightningStore\ns = LightningStore(sys.argv[1]); print('open', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", hold, path], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreInUseError, match=f"pid {other.pid}.*readonly=True"):
            LightningStore(path)
        with LightningStore(path, readonly=True) as reader:
            assert list(reader.query_rollouts()) == []
            with pytest.raises(BadRequestError, match="readonly"):
                reader.enqueue_rollout(1)
    finally:
        other.kill()
        other.wait(20)
    with LightningStore(path) as store:  # the lock died with its holder
        store.enqueue_rollout(1)


def test_opened_twice_in_a_process_it_is_one_store(tmp_path):
    path = tmp_path / "run.db"
    one, two = LightningStore(path), LightningStore(os.path.relpath(path))
    made = one.enqueue_rollout("x")
    assert two.dequeue_rollout().rollout_id == made.rollout_id
    one.close()
    two.enqueue_rollout("y")
    two.close()
    with pytest.raises(StoreError, match="closed"):
        two.enqueue_rollout("z")
    assert not [t for t in threading.enumerate() if t.name.endswith(str(path))]
    assert [p.name for p in tmp_path.iterdir()] == ["run.db"]


def test_what_is_no_store_is_said(tmp_path):
    (tmp_path / "text.db").write_text("this is a letter, not a database, and long enough to be looked at twice" * 20)
    with pytest.raises(StoreError, match="no intact SQLite file"):
        LightningStore(tmp_path / "text.db")
    with pytest.raises(StoreError, match="folder"):
        LightningStore(tmp_path / "no" / "such.db")


def test_closing_ends_those_who_wait(tmp_path):
    store, errors = LightningStore(tmp_path / "run.db"), []

    def wait():
        try:
            store.dequeue_rollout(wait_s=60)
        except StoreError as e:
            errors.append(str(e))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.05)
    store.close()
    waiting.join(20)
    assert len(errors) == 1 and "closed" in errors[0]
