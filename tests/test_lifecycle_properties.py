"The life cycle under random interleavings of everything that may happen to it, restarts of the file included."

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from agentlightning_nb.errors import TransitionError
from agentlightning_nb.storage import lifecycle
from agentlightning_nb.storage.turns import Op
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import TERMINAL, RolloutConfig, Span

ENDINGS = st.sampled_from(["succeeded", "failed", "timeout", "unresponsive"])


def overdue(store, attempt_id):
    "Let the time limit of an attempt have passed, and the writer notice."

    def work(turn):
        turn.execute("UPDATE attempt SET timeout_seconds = -1 WHERE attempt_id = ?", (attempt_id,))
        lifecycle.sweep(turn)

    store._do(Op(work))


class LifeCycle(RuleBasedStateMachine):
    rollouts = Bundle("rollouts")
    attempts = Bundle("attempts")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = LightningStore(Path(self.folder.name) / "store.db")
        self.inputs: dict[str, int] = {}  # what was put in
        self.claimed: set[str] = set()  # every attempt that was ever handed out
        self.ended: dict[str, tuple] = {}  # how a rollout ended, once it had
        self.spans: Counter[str] = Counter()  # acknowledged, by attempt
        self.accepted: Counter[str] = Counter()  # results, by rollout

    def teardown(self):
        self.store.close()
        self.folder.cleanup()

    def span(self, rollout_id, attempt_id, name="work"):
        number = sum(self.spans.values()) + 1
        return Span(
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            sequence_id=0,
            trace_id=f"{number:032x}",
            span_id=f"{number:016x}",
            name=name,
        )

    @rule(
        target=rollouts,
        n=st.integers(1, 3),
        max_attempts=st.integers(1, 3),
        retry=st.lists(st.sampled_from(["failed", "timeout", "unresponsive"]), unique=True),
    )
    def enqueue(self, n, max_attempts, retry):
        config = RolloutConfig(max_attempts=max_attempts, retry_condition=retry)
        start = len(self.inputs)
        made = self.store.enqueue_many_rollouts([{"input": start + i, "config": config} for i in range(n)])
        self.inputs |= {r.rollout_id: r.input for r in made}
        return multiple(*(r.rollout_id for r in made))

    @rule(target=attempts, limit=st.integers(1, 3), worker=st.sampled_from([None, "w1", "w2"]))
    def claim(self, limit, worker):
        waiting = self.store.query_rollouts(status_in=["queuing", "requeuing"]).total
        claimed = self.store.dequeue_many_rollouts(limit=limit, worker_id=worker)
        assert len(claimed) == min(limit, waiting)
        ids = [c.attempt.attempt_id for c in claimed]
        assert not self.claimed & set(ids) and len(set(ids)) == len(ids)
        self.claimed |= set(ids)
        return multiple(*((c.rollout_id, c.attempt.attempt_id) for c in claimed))

    @rule(attempt=attempts)
    def heartbeat(self, attempt):
        gone = self.store.heartbeat([attempt[1]])
        found = [a for a in self.store.query_attempts(attempt[0]) if a.attempt_id == attempt[1]]
        assert bool(gone) == (found[0].end_time is not None)

    @rule(attempt=attempts, n=st.integers(1, 3))
    def record(self, attempt, n):
        for _ in range(n):
            self.store.add_span(self.span(*attempt))
            self.spans[attempt[1]] += 1

    @rule(attempt=attempts, status=ENDINGS, reward=st.none() | st.floats(-10, 10), with_span=st.booleans())
    def finish(self, attempt, status, reward, with_span):
        rollout_id, attempt_id = attempt
        before = self.store.get_rollout_by_id(rollout_id)
        known = {a.attempt_id: a for a in self.store.query_attempts(rollout_id)}
        spans = [self.span(*attempt)] if with_span else []
        repeated = known[attempt_id].status == status and not spans and reward is None
        try:
            self.store.finish_attempt(rollout_id, attempt_id, status=status, reward=reward, spans=spans)
            late = False
        except TransitionError:
            late = True
        self.spans[attempt_id] += len(spans)
        after = self.store.get_rollout_by_id(rollout_id)
        if before.status in TERMINAL:
            assert after.status == before.status and after.reward == before.reward
            assert late or repeated
        if known[attempt_id].end_time is not None and not repeated:
            kept = {a.attempt_id: a for a in self.store.query_attempts(rollout_id)}[attempt_id]
            assert late and kept.metadata["late"]["status"] == status and kept.status == known[attempt_id].status
        elif known[attempt_id].end_time is None and not late and status == "succeeded":
            self.accepted[rollout_id] += after.status == "succeeded" != before.status

    @rule(attempt=attempts)
    def time_out(self, attempt):
        overdue(self.store, attempt[1])
        found = [a for a in self.store.query_attempts(attempt[0]) if a.attempt_id == attempt[1]]
        assert found[0].end_time is not None

    @rule(rollout_id=rollouts)
    def cancel(self, rollout_id):
        before = self.store.get_rollout_by_id(rollout_id).status
        try:
            self.store.update_rollout(rollout_id, status="cancelled")
            assert before not in TERMINAL or before == "cancelled"
        except TransitionError:
            assert before in TERMINAL - {"cancelled"}

    @rule(target=attempts, rollout_id=rollouts)
    def try_again(self, rollout_id):
        before = self.store.get_rollout_by_id(rollout_id).status
        try:
            started = self.store.start_attempt(rollout_id)
        except TransitionError:
            assert before in TERMINAL
            return multiple()
        assert before not in TERMINAL
        self.claimed.add(started.attempt.attempt_id)
        return (rollout_id, started.attempt.attempt_id)

    @rule()
    def restart(self):
        path = self.store.path
        before = self.store.statistics()
        self.store.close()
        self.store = LightningStore(path)
        assert self.store.statistics() == before

    @invariant()
    def nothing_is_lost_or_made_up(self):
        found = self.store.query_rollouts()
        assert {r.rollout_id: r.input for r in found} == self.inputs
        by_status = Counter(r.status for r in found)
        told = self.store.statistics()
        assert told["total_rollout"] == len(self.inputs) and told["total_span"] == sum(self.spans.values())
        assert {k: v for k, v in told["rollouts_by_status"].items() if v} == dict(by_status)
        assert told["total_attempt"] == len(self.claimed)

    @invariant()
    def terminal_is_final(self):
        for r in self.store.query_rollouts():
            if r.status in TERMINAL:
                ending = (r.status, r.end_time, r.input)
                assert self.ended.setdefault(r.rollout_id, ending) == ending
            else:
                assert r.rollout_id not in self.ended and r.end_time is None
            assert self.accepted[r.rollout_id] <= 1

    @invariant()
    def at_most_one_attempt_is_under_way(self):
        for rollout_id in self.inputs:
            rollout = self.store.get_rollout_by_id(rollout_id)
            active = [a for a in self.store.query_attempts(rollout_id) if a.end_time is None]
            assert len(active) == (rollout.status in ("preparing", "running"))
            if active:
                assert active[0].attempt_id == rollout.attempt.attempt_id and active[0].status == rollout.status

    @invariant()
    def spans_are_kept_once_and_numbered(self):
        for rollout_id in self.inputs:
            for attempt in self.store.query_attempts(rollout_id):
                numbers = [s.sequence_id for s in self.store.query_spans(rollout_id, attempt.attempt_id)]
                assert numbers == list(range(1, self.spans[attempt.attempt_id] + 1))


TestLifeCycle = LifeCycle.TestCase
TestLifeCycle.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
