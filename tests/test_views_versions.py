"Versions, comparisons and rescoring, asked of every kind of store."

import pytest

from agentlightning_nb.errors import BadRequestError, NotFoundError
from agentlightning_nb.rescoring import annotated_reward
from agentlightning_nb.types import PromptTemplate
from agentlightning_nb.views.diffs import json_diff, text_diff
from agentlightning_nb.views.questions import answer

HOSTILE = "<script>alert(1)</script>\u202e\x00 {x}"


def ran(store, task, reward, *, version=None, step=0, group=None):
    known = {"run_id": "run-1", "step": step, "task_id": task, "resources_id": version, "group_id": group}
    got = store.start_rollout({"task": task}, mode="train", **known)
    store.finish_attempt(got.rollout_id, got.attempt.attempt_id, reward=reward)
    return got.rollout_id


@pytest.fixture
def versions(store):
    "Two versions that ran the same two tasks."
    store.add_run("run-1", algorithm="grpo")
    first = store.add_resources({"prompt": PromptTemplate("Add {a}.")}).resources_id
    second = store.add_resources({"prompt": PromptTemplate("Add {a} to {b}.")}, parents=[first], note="both")
    for step, version, rewards in ((0, first, (0.0, 1.0)), (1, second.resources_id, (1.0, 0.5))):
        for task, reward in zip(("t1", "t2"), rewards, strict=True):
            ran(store, task, reward, version=version, step=step)
    return first, second.resources_id


def test_the_lineage_has_parents_and_what_each_version_reached(store, versions):
    store.add_resources({"prompt": PromptTemplate("of nobody")})
    told = answer(store, "versions", {"run_id": "run-1"})
    assert [(v["resources_id"], v["depth"], v["rewards"]["train"]["mean"]) for v in told["versions"]] == [
        (versions[0], 0, 0.5),
        (versions[1], 1, 0.75),
    ]
    assert told["best"] == versions[1] and told["versions"][1]["parents"] == [versions[0]]
    assert len(answer(store, "versions")["versions"]) == 3


def test_a_diff_shows_words_and_paths(store, versions):
    told = answer(store, "diff", {"a": versions[0], "b": versions[1]})["resources"]["prompt"]
    assert told["status"] == "changed" and [c["path"] for c in told["changes"]] == ["template"]
    assert "".join(p["text"] for p in told["text"] if p["op"] != "-") == "Add {a} to {b}."


def test_the_same_tasks_stand_side_by_side(store, versions):
    ran(store, "t3", 1.0, version=versions[0])
    told = answer(store, "sides", {"a": versions[0], "b": versions[1]})
    assert [(t["task_id"], t["change"]) for t in told["tasks"]] == [("t1", 1.0), ("t2", -0.5)]
    assert (told["compared"], told["only_one"], told["better"], told["worse"]) == (2, 1, 1, 1)


def test_a_matrix_is_paged_and_names_its_movers(store, versions):
    told = answer(store, "matrix", {"run_id": "run-1", "limit": 1, "offset": 1})
    assert (told["tasks"], told["all_tasks"], told["cells"]) == (["t2"], 2, [[[1.0, 1], [0.5, 1]]])
    assert [m["task_id"] for m in told["movers"]["best"]] == ["t1"]


def test_runs_are_compared_by_step_rollouts_and_time(store, versions):
    (run,) = answer(store, "compare", {"runs": ["run-1"]})["runs"]
    assert [(p["step"], p["rollouts"], p["mean"]) for p in run["points"]["train"]] == [(0, 2, 0.5), (1, 4, 0.75)]
    assert all(p["seconds"] >= 0 and p["within"] > 0 for p in run["points"]["train"])


@pytest.mark.parametrize(
    "question, params",
    [("versions", {"run_id": "no"}), ("diff", {"a": "no", "b": "no"}), ("matrix", {"run_id": "no"})],
)
def test_what_is_not_there_is_said(store, question, params):
    with pytest.raises(NotFoundError):
        answer(store, question, params)


def test_runs_to_compare_are_a_list(store):
    with pytest.raises(BadRequestError, match="list"):
        answer(store, "compare", {"runs": "run-1"})


def test_a_reward_is_tried_on_stored_rollouts(store):
    store.add_run("run-1")
    ids = [ran(store, "t", r, group=g) for g, rs in (("g1", (0.0, 1.0)), ("g2", (1.0, 1.0))) for r in rs]
    found = store.rescore(lambda r: 1 / (ids.index(r.rollout_id) - 3), run_id="run-1")
    assert [row.new for row in found.rows] == [-1 / 3, -0.5, -1.0, None]
    assert [row.rollout_id for row in found.flips] == ids[:2]
    assert found.errors[0].error == "ZeroDivisionError: division by zero"
    assert found.save("inverse") == 3
    assert [a.score for a in store.query_annotations(run_id="run-1")] == [-1 / 3, -0.5, -1.0]
    assert [store.get_rollout_by_id(i).reward for i in ids] == [0.0, 1.0, 1.0, 1.0]
    said = store.rescore(annotated_reward(store, name="inverse"))
    assert [row.new for row in said.rows] == [-1 / 3, -0.5, -1.0, None]


@pytest.mark.parametrize(
    "before, after", [("", HOSTILE), (HOSTILE, "a b"), ("a\n\nb", "a b\n"), ("x " * 30_000, "x\n" * 9)]
)
def test_a_text_diff_joins_to_both_texts(before, after):
    parts = text_diff(before, after, context=0)
    assert "".join(p["text"] for p in parts if p["op"] != "+") == before
    assert "".join(p["text"] for p in parts if p["op"] != "-") == after


def test_a_json_diff_tells_nothing_from_null():
    assert json_diff({"a": None}, {})[0]["op"] == "removed"
    assert json_diff({"a": [1]}, {"a": [1, None]}) == [{"op": "added", "path": "a[1]", "before": None, "after": None}]
