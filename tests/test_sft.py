"Choosing rollouts, their labels, and fine-tuning on them: a tiny real model, untrained."

import re

import pytest

pytest.importorskip("torch")
trl = pytest.importorskip("trl")

from agentlightning_nb.algorithms.sft import SFT, message_row  # noqa: E402
from agentlightning_nb.demo import CALCULATOR, CalculatorAgent  # noqa: E402
from agentlightning_nb.errors import BadRequestError  # noqa: E402
from agentlightning_nb.rl.tiny import make_model, make_tokenizer  # noqa: E402
from agentlightning_nb.rl.weights import load_model  # noqa: E402
from agentlightning_nb.store import LightningStore  # noqa: E402
from agentlightning_nb.trainer import Trainer  # noqa: E402
from agentlightning_nb.types import Span  # noqa: E402

TASK = {"question": "1 + 1?", "answer": 2}
HELD = {"question": "2 + 2?", "answer": 4}
CHAT = [
    {"role": "user", "content": "1 + 1?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "calculator", "arguments": {"expression": "1 + 1"}}}
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": "2"},
    {"role": "assistant", "content": "2"},
]


@pytest.fixture(scope="module")
def tiny():
    tokenizer = make_tokenizer()
    return make_model(tokenizer), tokenizer


@pytest.fixture
def folder(tiny, tmp_path):
    for part in tiny:
        part.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def filled(tiny):
    "A store with a good rollout of a task, and one of what is held out."
    with LightningStore() as store:
        for asked, mode in ((TASK, "train"), (HELD, "train")):
            row = message_row(
                [
                    {"role": "user", "content": asked["question"]},
                    {"role": "assistant", "content": str(asked["answer"])},
                ],
                [CALCULATOR],
                tiny[1],
            )
            start = next(i for i, label in enumerate(row.labels) if label != -100)
            end = max(i for i, label in enumerate(row.labels) if label != -100) + 1
            r = store.start_rollout(asked, mode=mode)
            a = {"prompt_token_ids": row.input_ids[:start], "response_token_ids": row.input_ids[start:end]}
            span = Span(
                rollout_id=r.rollout_id, attempt_id=r.attempt.attempt_id, sequence_id=1, name="chat", attributes=a
            )
            store.finish_attempt(r.rollout_id, r.attempt.attempt_id, reward=1.0, spans=[span])
        yield store


def fit(store, algorithm, **options):
    with Trainer(n_workers=4, store=store) as trainer:
        return trainer.fit(
            CalculatorAgent(), algorithm=algorithm, tasks=[TASK], val_tasks=[HELD], progress=False, **options
        )


def test_labels_are_trls_own_token_for_token(tiny, tmp_path):
    from datasets import Dataset

    model, tokenizer = tiny
    ours = message_row(CHAT, [CALCULATOR], tokenizer)
    marked = make_tokenizer()
    marked.chat_template = re.sub(
        r"(<\|im_start\|>\{\{ m\.role \}\}\n)(.*?<\|im_end\|>)\n\{% endfor %\}\{% if add",
        r"\1{% if m.role == 'assistant' %}{% generation %}\2{% endgeneration %}{% else %}\2{% endif %}"
        r"{{ '\\n' }}{% endfor %}{% if add",
        tokenizer.chat_template,
        flags=re.S,
    )
    assert "generation" in marked.chat_template
    options = trl.SFTConfig(
        output_dir=str(tmp_path), assistant_only_loss=True, max_length=None, report_to="none", use_cpu=True, bf16=False
    )
    data = Dataset.from_list([{"messages": CHAT, "tools": [CALCULATOR]}])
    trainer = trl.SFTTrainer(model=model, args=options, train_dataset=data, processing_class=marked)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    assert batch["input_ids"][0].tolist() == ours.input_ids
    assert batch["labels"][0].tolist() == ours.labels


def test_what_is_selected_is_shown_and_leaves_the_held_out_task_out(filled):
    assert len(SFT().select(filled)) == 2
    chosen = SFT().select(filled, val_tasks=[HELD])
    assert [c.input for c in chosen] == [TASK]
    assert "1 rollouts of 1 tasks" in repr(chosen) and "<table>" in chosen._repr_html_()


@pytest.mark.parametrize("rank", [None, 4])
def test_the_weights_that_were_trained_are_the_version_that_is_served(filled, folder, rank):
    run = fit(filled, SFT(folder, epochs=3, lr=1e-2, lora_rank=rank))
    assert (run.status, run.step, run.reason) == ("succeeded", 3, "")
    losses = [m["value"] for m in filled.query_metrics(run.run_id) if m["name"] == "loss"]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert {m["value"] for m in filled.query_metrics(run.run_id) if m["name"] == "rows"} == {1.0}
    model, _ = load_model(run.resources["weights"].path)
    before, _ = load_model(folder)
    assert sum((a - b).abs().sum() for a, b in zip(model.parameters(), before.parameters(), strict=True)) > 0
    last = [r for r in filled.query_rollouts(run_id=run.run_id, mode="val") if r.step == 3]
    assert [r.resources_id for r in last] == [run.version]
    assert [t.resources_id for t in filled.query_triplets([last[0].rollout_id])[last[0].rollout_id]][0] == run.version


def test_nothing_chosen_says_so(folder):
    with LightningStore() as store, pytest.warns(RuntimeWarning, match="No rollout was chosen"):
        assert fit(store, SFT(folder)).status == "failed"


def test_options_that_cannot_be_are_refused(filled):
    with pytest.raises(BadRequestError, match="epochs is 0"):
        fit(filled, SFT(epochs=0))
