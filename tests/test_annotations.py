"What people say about a rollout and what a trainer made of it, in every kind of store."

import math
import sqlite3

import pytest

from agentlightning_nb.errors import BadRequestError, NotFoundError, RewardError
from agentlightning_nb.migrations import migrate, migrations, said
from agentlightning_nb.storage.training import StepRow
from agentlightning_nb.store import LightningStore


def a_rollout(store, **known):
    return store.start_rollout({"q": "2 + 2"}, **known).rollout_id


def test_an_annotation_stands_beside_the_reward(store):
    one, other = a_rollout(store, run_id="run-1"), a_rollout(store, run_id="run-2")
    first = store.annotate(one, thumb=1, note="exact", author="ada")
    second = store.annotate(one, score=0.25, name="style", correction="4")
    third = store.annotate(other, thumb=-1)
    assert store.query_annotations(one) == [first, second]
    assert store.query_annotations(run_id="run-2") == [third]
    assert store.query_annotations() == [first, second, third]
    assert (first.author, first.thumb, first.note, first.score) == ("ada", 1, "exact", None)
    assert (second.name, second.score, second.correction) == ("style", 0.25, "4")
    assert store.get_rollout_by_id(one).reward is None


def test_an_annotation_is_taken_back(store):
    rollout_id = a_rollout(store)
    kept = store.annotate(rollout_id, thumb=0)
    store.remove_annotation(kept.annotation_id)
    assert store.query_annotations(rollout_id) == []
    with pytest.raises(NotFoundError):
        store.remove_annotation(kept.annotation_id)


@pytest.mark.parametrize("said", [{}, {"thumb": 2}, {"thumb": True}, {"note": 3}, {"author": "ada"}, {"note": ""}])
def test_an_annotation_that_says_nothing_is_refused(store, said):
    rollout_id = a_rollout(store)
    with pytest.raises(BadRequestError):
        store.annotate(rollout_id, **said)
    assert store.query_annotations() == []


@pytest.mark.parametrize("score", [math.nan, math.inf, "good"])
def test_a_score_is_a_finite_number(store, score):
    rollout_id = a_rollout(store)
    with pytest.raises(RewardError):
        store.annotate(rollout_id, score=score)


def test_an_annotation_of_no_rollout_is_refused(store):
    with pytest.raises(NotFoundError):
        store.annotate("ro-none", thumb=1)


def test_training_rows_come_back_in_order(store):
    rollout_id = a_rollout(store, run_id="run-1", step=3)
    store.add_run("run-1", algorithm="grpo")
    used = StepRow(rollout_id=rollout_id, advantage=0.5, tokens=3, logprobs=[-0.5, -1.25, -0.1], calls=["sp-1", "sp-2"])
    store.add_training_rows("run-1", 3, [used, {"rollout_id": rollout_id, "position": 1, "dropped": "truncated"}])
    store.add_training_rows("run-1", 4, [{"rollout_id": "ro-other"}])
    first, second = store.query_training_rows(rollout_id=rollout_id)
    assert (first.run_id, first.step, first.advantage, first.calls) == ("run-1", 3, 0.5, ["sp-1", "sp-2"])
    assert first.logprobs == pytest.approx([-0.5, -1.25, -0.1], abs=1e-7)
    assert (second.position, second.dropped, second.logprobs) == (1, "truncated", None)
    assert store.query_training_rows(run_id="run-1", step=3) == [first, second]
    assert len(store.query_training_rows(run_id="run-1")) == 3


def test_training_rows_of_no_run_and_of_no_shape_are_refused(store):
    with pytest.raises(NotFoundError):
        store.add_training_rows("run-none", 0, [{"rollout_id": "ro-1"}])
    store.add_run("run-1")
    with pytest.raises(BadRequestError):
        store.add_training_rows("run-1", 0, [{"rollout_id": "ro-1"}, {"position": 2}])
    assert store.query_training_rows(run_id="run-1") == []


def test_a_file_older_than_annotations_has_none(tmp_path):
    path = tmp_path / "old.db"
    conn = sqlite3.connect(path, isolation_level=None)
    migrate(conn)
    for kind, name in (
        ("VIEW", "annotated"),
        ("VIEW", "trained"),
        ("TABLE", "annotation"),
        ("TABLE", "training_row"),
        ("TABLE", "verdict"),
    ):
        conn.execute(f"DROP {kind} {name}")
    conn.execute(f"PRAGMA user_version = {migrations().index(said)}")
    conn.close()
    with LightningStore(path, readonly=True) as old:
        assert old.query_annotations() == [] and old.query_training_rows(run_id="run-1") == []
    with LightningStore(path) as opened:
        assert opened.annotate(a_rollout(opened), thumb=1) in opened.query_annotations()


def test_a_person_can_read_what_was_said_and_trained(tmp_path):
    with LightningStore(tmp_path / "s.db") as store:
        store.add_run("run-1")
        rollout_id = a_rollout(store, run_id="run-1")
        store.annotate(rollout_id, thumb=-1, note="wrong", author="ada")
        store.add_training_rows(
            "run-1", 0, [{"rollout_id": rollout_id, "dropped": "no advantage", "calls": ["a", "b"]}]
        )
    conn = sqlite3.connect(tmp_path / "s.db")
    assert conn.execute("SELECT author, thumb, note, asked FROM annotated").fetchall() == [
        ("ada", "down", "wrong", '{"q":"2 + 2"}')
    ]
    assert conn.execute("SELECT calls, trained FROM trained").fetchall() == [(2, "no: no advantage")]
    conn.close()


def test_a_person_finds_runs_rollouts_spans_and_versions_under_their_names(tmp_path):
    with LightningStore(tmp_path / "s.db") as store:
        store.add_run("run-1", algorithm="GRPO")
        version = store.add_resources({}, note="initial").resources_id
        at = store.start_rollout(
            {"question": "2 + 2"}, run_id="run-1", step=0, mode="train", resources_id=version
        ).attempt
        call = {"prompt_token_ids": [1, 2], "response_token_ids": [3], "gen_ai.output.messages": "4"}
        store.add_span({"rollout_id": at.rollout_id, "attempt_id": at.attempt_id, "name": "chat", "attributes": call})
        store.finish_attempt(at.rollout_id, at.attempt_id, reward=0.5)
    conn = sqlite3.connect(tmp_path / "s.db")
    conn.row_factory = sqlite3.Row
    first = {
        name: dict(conn.execute(f"SELECT * FROM {name}").fetchone())
        for name in ("runs", "rollouts", "spans", "versions", "tokens")
    }
    assert (first["runs"]["algorithm"], first["runs"]["rollouts"]) == ("GRPO", 1)
    assert (first["rollouts"]["asked"], first["rollouts"]["reward"], first["rollouts"]["version"]) == ("2 + 2", 0.5, 1)
    assert first["rollouts"]["began"].startswith("20") and first["spans"]["prompt_tokens"] == 2
    assert (first["versions"]["note"], first["versions"]["mean_training_reward"]) == ("initial", 0.5)
    assert first["tokens"]["response_tokens"] == 1
    assert not any(isinstance(value, bytes) for row in first.values() for value in row.values())
