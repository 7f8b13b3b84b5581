"A running batch gives every row the scores that it would have alone, for every family of models."

import random

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from agentlightning_nb.engines.batch import tails  # noqa: E402
from agentlightning_nb.engines.cached import CachedDecoder  # noqa: E402
from agentlightning_nb.engines.decoding import ReferenceDecoder, decoder_kind, differs  # noqa: E402
from agentlightning_nb.engines.flat import FlatDecoder  # noqa: E402
from agentlightning_nb.engines.shared import SharedDecoder  # noqa: E402
from agentlightning_nb.rl.tiny import make_model, make_tokenizer  # noqa: E402

VOCABULARY = 300
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,  # so that every token matters to the next
}
FAMILIES = {
    "Llama": {"head_dim": 32},
    "Qwen2": {},
    "Qwen3": {"head_dim": 32},
    "Mistral": {"sliding_window": 8},
    "Gemma3Text": {"head_dim": 32, "sliding_window": 6, "num_hidden_layers": 6},
    "Phi3": {},
    "GPTNeoX": {},
    "Bloom": {"n_layer": 2, "n_head": 2},
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 64},
}

FLAT = ("Llama", "Qwen2", "Qwen3")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model_of(family, **more):
    config = getattr(transformers, f"{family}Config")(**SIZES | FAMILIES.get(family, {}) | more)
    torch.manual_seed(0)
    return getattr(transformers, f"{family.removesuffix('Text')}ForCausalLM")(config).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_join_leave_and_come_back_are_scored_as_if_alone(family):
    model = model_of(family)
    assert decoder_kind(model) is (SharedDecoder if family in FLAT else CachedDecoder)
    for kind in (CachedDecoder, *((FlatDecoder, SharedDecoder) if family in FLAT else ())):
        assert differs(kind(model), ReferenceDecoder(model), VOCABULARY) < 1e-3


def test_a_model_whose_cache_is_of_another_kind_is_sampled_slowly_and_that_is_said(caplog):
    config = transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2)
    model = transformers.MambaForCausalLM(config).eval()
    assert decoder_kind(model) is ReferenceDecoder
    assert "every token computes its whole sequence anew" in caplog.text


def test_a_wrong_decoder_is_found_out():
    class Forgetful(CachedDecoder):
        def _step(self, tokens):
            self.length = self.length + 1
            return self._forward(tokens[:, None], self.cache, self.length - 1)

    model = model_of("Qwen2")
    assert differs(Forgetful(model), ReferenceDecoder(model), VOCABULARY) > 0.01


def test_an_adapter_is_not_overlooked():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(make_model(make_tokenizer()), peft.LoraConfig(target_modules=["q_proj"])).eval()
    assert decoder_kind(model) is CachedDecoder
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    assert differs(CachedDecoder(model), ReferenceDecoder(model), VOCABULARY) < 1e-3


@pytest.mark.parametrize("decoder", [FlatDecoder, SharedDecoder, CachedDecoder])
def test_half_precision_is_close_to_the_model(decoder):
    model = make_model(make_tokenizer()).to(torch.bfloat16).eval()
    assert decoder_kind(model) is SharedDecoder
    assert differs(decoder(model), ReferenceDecoder(model), VOCABULARY) < 0.2


@pytest.mark.parametrize("decoder", [FlatDecoder, SharedDecoder, CachedDecoder])
def test_a_long_answer_grows_its_room_without_losing_anything(decoder):
    model = model_of("Llama")
    fast, exact = decoder(model), ReferenceDecoder(model)
    for d in (fast, exact):
        d.add([[3, 4, 5], [6]])
    for token in range(10, 90):
        a, b = (d.step(torch.tensor([token, token + 1])) for d in (fast, exact))
    assert (a.log_softmax(-1) - b.log_softmax(-1)).abs().max() < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_part_come_and_end_in_any_order_are_scored_as_if_alone(seed):
    "Few tokens, so that rows often stand alike; newcomers among them, and some that go on from what is kept."
    luck, model = random.Random(seed), model_of("Qwen2")
    shared, exact, rows, slots, kept = SharedDecoder(model), ReferenceDecoder(model), [], [], []
    for _ in range(60):
        if len(rows) < 3 or luck.random() < 0.2:
            fresh = [luck.choices((3, 4), k=luck.randint(1, 3)) for _ in range(luck.randint(1, 9))]
            given = [None] * len(fresh)
            if kept and luck.random() < 0.7:
                ids, row = luck.choice(kept)
                fresh.append([*ids, 5])
                given.append(row)
            pair = [d.add(fresh, given if d is shared else None) for d in (shared, exact)]
            rows += fresh
        elif luck.random() < 0.3:
            i = luck.randrange(len(rows))
            kept.append((list(rows[i]), shared.row(i)))
            stay = sorted(luck.sample(range(len(rows)), luck.randint(0, len(rows))))
            rows = [rows[i] for i in stay]
            shared.keep(stay)
            exact.keep(stay)
            continue
        else:
            tokens = luck.choices((3, 4), k=len(rows))
            pair = [d.step(torch.tensor(tokens)) for d in (shared, exact)]
            rows = [[*row, token] for row, token in zip(rows, tokens, strict=True)]
            slots.append((shared.used, len(rows)))
        assert (pair[0].log_softmax(-1) - pair[1].log_softmax(-1)).abs().max() < 1e-3
    assert any(used < n for used, n in slots)


def test_rests_are_of_equal_length_where_prompts_are_long_enough():
    begin, rest = tails([[1, 2, 3, 4], [5, 6, 7], [8]], [3, 0, 0])
    assert begin == [1, 0, 0] and rest == [[2, 3, 4], [5, 6, 7], [8]]
