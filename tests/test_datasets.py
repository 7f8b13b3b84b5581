"Which rollouts become examples, and what is written of them."

import json

import pytest

from agentlightning_nb.datasets import Selection, choose
from agentlightning_nb.errors import BadRequestError
from agentlightning_nb.types import Span


def ran(store, task_id, reward, *, mode="train", ids=None, answer="4", value=None, finish="stop"):
    "A rollout that ended with this reward and one recorded call; its id."
    r = store.start_rollout(value if value is not None else {"q": task_id}, mode=mode, task_id=task_id)
    a = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps([{"role": "user", "content": task_id}])}
    a |= {"gen_ai.output.messages": json.dumps([{"role": "assistant", "content": answer}])}
    a |= {"prompt_token_ids": (ids or ([1, 2], [3]))[0], "response_token_ids": (ids or ([1, 2], [3]))[1]}
    a |= {"gen_ai.response.finish_reasons": [finish]}
    span = Span(rollout_id=r.rollout_id, attempt_id=r.attempt.attempt_id, sequence_id=1, name="chat", attributes=a)
    store.finish_attempt(r.rollout_id, r.attempt.attempt_id, reward=reward, spans=[span])
    return r.rollout_id


def ids_of(store, **options):
    return [c.rollout_id for c in choose(store, Selection(**options))]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_best_of_each_task_and_a_threshold_in_an_order_that_stays(store):
    a, b, c, d = ran(store, "x", 0.2), ran(store, "y", 1.0), ran(store, "x", 0.9), ran(store, "x", 0.9)
    assert ids_of(store) == ids_of(store) == [c, d, a, b]
    assert ids_of(store, best_of=1) == [c, b]
    assert ids_of(store, threshold=0.9) == [c, d, b]
    assert ids_of(store, contested=True) == [c, d, a]


def test_nothing_of_the_validation_split_gets_in(store):
    ran(store, "val", 1.0, mode="val")
    ran(store, "val", 1.0)  # the same task, sampled for training
    ran(store, "other name", 1.0, value={"q": "val"})  # the same input under another id
    kept = ran(store, "train", 1.0)
    assert ids_of(store) == [kept]
    with pytest.raises(BadRequestError, match="never trained on"):
        store.export_dataset("x.jsonl", mode="val")


def test_annotations_choose_and_correct(store, tmp_path):
    up, down, fixed = ran(store, "a", 0.0), ran(store, "b", 1.0), ran(store, "c", 0.0, answer="5")
    store.annotate(up, thumb=1)
    store.annotate(down, thumb=1)
    store.annotate(down, thumb=-1)  # changed their mind
    store.annotate(fixed, correction="4")
    assert ids_of(store, annotated="up") == [up]
    assert ids_of(store, annotated="any") == [up, down, fixed]
    assert ids_of(store, annotated="corrected", threshold=0.5) == [fixed]
    told = store.export_dataset(tmp_path / "m.jsonl", annotated="corrected")
    assert (told.rollouts, told.lines, told.left_out) == (1, 1, 0)
    assert lines(told.path)[0]["messages"][-1] == {"role": "assistant", "content": "4"}
    assert store.export_dataset(tmp_path / "t.jsonl", annotated="corrected", form="tokens").left_out == 1


def test_token_rows_label_what_was_sampled_and_leave_cut_off_answers_out(store, tmp_path):
    ran(store, "a", 1.0, ids=([1, 2], [3, 4]))
    ran(store, "b", 1.0, ids=([1, 2], [3, 4]), finish="length")
    told = store.export_dataset(tmp_path / "t.jsonl", form="tokens")
    assert (told.lines, told.left_out) == (1, 1)
    row = lines(told.path)[0]
    assert (row["input_ids"], row["labels"]) == ([1, 2, 3, 4], [-100, -100, 3, 4])


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        ("messages", {"messages", "rollout_id", "task_id", "reward"}),
        ("openai", {"messages"}),
        ("art", {"messages_and_choices", "tools", "reward", "metrics", "metadata", "logs"}),
        ("verl", {"messages", "tools", "data_source", "extra_info"}),
    ],
)
def test_every_form_has_its_columns(store, tmp_path, form, keys):
    ran(store, "a", 1.0)
    assert set(lines(store.export_dataset(tmp_path / "x.jsonl", form=form).path)[0]) == keys


def test_a_file_is_written_whole_or_not_at_all(store, tmp_path, monkeypatch):
    path = tmp_path / "x.jsonl"
    path.write_text("before", encoding="utf-8")
    ran(store, "a", 1.0)
    monkeypatch.setattr(type(store), "query_triplets", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.export_dataset(path)
    assert path.read_text(encoding="utf-8") == "before"
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith("jsonl") or p.name.startswith(".x")] == ["x.jsonl"]


def test_without_a_path_it_is_a_dataset(store):
    pytest.importorskip("datasets")
    ran(store, "a", 1.0)
    assert store.export_dataset(form="tokens")[0]["input_ids"] == [1, 2, 3]
