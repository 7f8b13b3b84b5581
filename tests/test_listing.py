"Pages of rollouts and the search in their texts, in every kind of store."

import sqlite3
import threading

import pytest

from agentlightning_nb.errors import BadRequestError
from agentlightning_nb.storage.listing import SORTS, ListQuery
from agentlightning_nb.storage.search import Searcher
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import AttemptError
from agentlightning_nb.views.questions import answer

REWARDS = [0.5, None, 1.0, 0.5, 0.0, None, 0.5, 1.0]


def filled(store):
    for i, reward in enumerate(REWARDS):
        at = store.start_rollout({"question": f"task {i}"}, run_id="run-1", step=i % 2, task_id=f"t{i % 3}").attempt
        if reward is not None:
            store.finish_attempt(at.rollout_id, at.attempt_id, reward=reward)


def all_of(store, **asked):
    found, page = [], store.list_rollouts(ListQuery(**asked, limit=3))
    total = page["total"]
    while True:
        found += [int(row["asked"].split()[1]) for row in page["rollouts"]]
        if page["next"] is None:
            assert total == len(found)
            return found
        page = store.list_rollouts(ListQuery(**asked, limit=3, after=page["next"]))
        assert page["total"] is None


def test_pages_follow_each_other_in_every_order_without_a_gap(store):
    filled(store)
    orders = {sort: all_of(store, sort=sort) for sort in SORTS}
    assert orders == {
        "newest": [7, 6, 5, 4, 3, 2, 1, 0],
        "oldest": [0, 1, 2, 3, 4, 5, 6, 7],
        "best": [7, 2, 6, 3, 0, 4, 5, 1],
        "worst": [4, 0, 3, 6, 2, 7, 1, 5],
    }
    assert all_of(store, run_id="run-1", step=1, sort="oldest") == [1, 3, 5, 7]
    assert all_of(store, task_id="t1", status="succeeded") == [7, 4]
    assert store.list_rollouts(ListQuery(run_id="run-2")) == {
        "rollouts": [],
        "start": 0,
        "next": None,
        "total": 0,
        "says": [],
    }


def test_a_page_is_not_moved_by_what_comes_meanwhile(store):
    filled(store)
    first = store.list_rollouts(ListQuery(limit=3))
    store.start_rollout({"question": "task 99"})
    then = store.list_rollouts(ListQuery(limit=3, after=first["next"]))
    assert [row["asked"] for row in then["rollouts"]] == ["task 4", "task 3", "task 2"]


@pytest.mark.parametrize(
    "asked",
    [{"sort": "prettiest"}, {"limit": 0}, {"start": -1}, {"after": "x"}, {"text": "?!"}, {"text": 3}, {"step": "a"}],
)
def test_a_wrong_question_is_refused(store, asked):
    with pytest.raises(BadRequestError):
        store.list_rollouts(ListQuery(**asked))


def test_words_are_found_in_what_was_asked_said_and_raised(store):
    made = {}
    for name, asked, said in (
        ("a", "Which coat?", "The raincoat."),
        ("b", {"question": "Which hat?"}, "None;\nno hat."),
    ):
        at = store.start_rollout(asked).attempt
        call = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": [{"role": "assistant", "content": said}]}
        store.add_span({"rollout_id": at.rollout_id, "attempt_id": at.attempt_id, "name": "chat", "attributes": call})
        store.add_span(
            {
                "rollout_id": at.rollout_id,
                "attempt_id": at.attempt_id,
                "name": "tool",
                "attributes": {"result": f"weather of {name}"},
            }
        )
        error = AttemptError(type="KeyError", message=f"no {name}-ticket", traceback="")
        store.finish_attempt(at.rollout_id, at.attempt_id, status="failed", error=error)
        made[at.rollout_id] = name

    def found(text, **more):
        told = answer(store, "rollouts", {"text": text, **more})
        assert told["says"] == []
        return "".join(made[row["rollout_id"]] for row in told["rollouts"])

    searches = ("which", "COAT", "rain", "no hat", "coat hat", "KeyError ticket", "weather", "<zzz>", '"coat" OR hat')
    assert [found(text) for text in searches] == ["ba", "a", "a", "b", "", "ba", "ba", "", ""]
    assert [found("which", status="failed", sort="oldest"), found("which", status="succeeded")] == ["ab", ""]


def test_a_rollout_is_found_once_it_has_ended(store):
    at = store.start_rollout("a heron").attempt
    assert store.list_rollouts(ListQuery(text="heron"))["rollouts"] == []
    store.finish_attempt(at.rollout_id, at.attempt_id, reward=1.0)
    assert [r["rollout_id"] for r in store.list_rollouts(ListQuery(text="heron"))["rollouts"]] == [at.rollout_id]


def test_a_long_search_says_how_far_it_is_newest_first_and_goes_on_by_itself(tmp_path):
    with LightningStore(tmp_path / "s.db") as store:
        for i in range(900):
            at = store.start_rollout(f"bird {i}").attempt
            store.finish_attempt(at.rollout_id, at.attempt_id, reward=1.0)
        slow = Searcher(store._read, patience_s=0.0)
        told = slow.find("bird")
        assert told.says == ["Searched the newest 400 of 900 rollouts so far; the rest is being read."]
        assert (len(told.rows), told.rows[0]) == (400, 900)
        slow._thread.join(30)
        assert (len(slow.find("bird").rows), slow.find("bird").says) == (900, [])
        assert slow.find("bird", most=10).says == ["More than 10 rollouts fit; these are the newest."]
        slow.close()
    assert not [t for t in threading.enumerate() if t.name == "agentlightning-search"]


def test_a_file_that_is_open_for_reading_is_searched_and_stays_as_it_was(tmp_path):
    path = tmp_path / "s.db"
    with LightningStore(path) as store:
        at = store.start_rollout("a heron").attempt
        store.finish_attempt(at.rollout_id, at.attempt_id, reward=1.0)
    with LightningStore(path, readonly=True) as store:
        assert store.list_rollouts(ListQuery(text="heron"))["total"] == 1
    assert not sqlite3.connect(path).execute("SELECT name FROM sqlite_master WHERE name LIKE '%words%'").fetchall()


def test_frames_have_the_same_columns_and_types_with_and_without_rows(store):
    pytest.importorskip("pandas")
    frames = ("rollouts_df", "rewards_df", "spans_df")
    empty = {name: getattr(store, name)() for name in frames}
    at = store.start_rollout({"question": "2 + 2"}, run_id="run-1", step=3, mode="train", worker_id="w").attempt
    call = {"prompt_token_ids": [1, 2], "response_token_ids": [3]}
    ids = {"rollout_id": at.rollout_id, "attempt_id": at.attempt_id}
    store.add_span(ids | {"name": "chat", "start_time": 1.0, "end_time": 1.5, "attributes": call})
    store.finish_attempt(*ids.values(), reward=0.5, rewards={"style": 0.25})
    store.start_rollout("no step")
    full = {name: getattr(store, name)() for name in frames}
    for name in frames:
        shared = [c for c in empty[name].columns if c in full[name].columns]
        assert set(shared) == set(empty[name].columns), name
        typed = {c: str(t) for c, t in full[name].dtypes.items() if str(t) in ("Int64", "float64")}
        assert {c: str(empty[name][c].dtype) for c in typed if c in shared} == {
            c: typed[c] for c in typed if c in shared
        }
    rollouts, rewards, spans = (full[name].iloc[0] for name in frames)
    assert str(full["rollouts_df"]["step"].dtype) == "Int64" and full["rollouts_df"]["step"].tolist()[0] == 3
    assert full["rollouts_df"]["step"].isna().tolist() == [False, True]
    assert (rollouts["attempts"], rollouts["worker_id"], rollouts["input"]) == (1, "w", {"question": "2 + 2"})
    assert (rewards["reward"], rewards["style"], len(full["rewards_df"])) == (0.5, 0.25, 1)
    assert (spans["prompt_tokens"], spans["response_tokens"], spans["seconds"]) == (2, 1, 0.5)
