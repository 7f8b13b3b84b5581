"""One GPU: a GRPO step on a model of half a billion parameters beside TRL's GRPOTrainer, the engine beside transformers, and memory.

    pip install -e '.[train,sft]'
    python benchmarks/gpu.py [--vllm PATH_OF_A_PYTHON_WITH_VLLM]

The model has the architecture of Qwen2.5-0.5B with random weights, so that nothing has to be downloaded: what is measured is time and memory, not what it
learns. Every answer has the same length. vLLM is asked as the trainer asks it, over HTTP by tokens, and gets new weights as it gets them in training. Both sides sample and train the same number of tokens a step with bfloat16 arithmetic over float32 weights, and
alternate; `--small` is a few layers of it, to try the script on a CPU.
"""

import argparse
import asyncio
import gc
import json
import logging
import statistics
import tempfile
import time
import warnings
from copy import deepcopy
from dataclasses import replace

import torch
import transformers
from tokenizers import Tokenizer

from agentlightning_nb.engines.torch import Torch
from agentlightning_nb.engines.vllm import VLLM
from agentlightning_nb.rl.advantages import group_advantages
from agentlightning_nb.rl.options import Lora, Memory, Optim
from agentlightning_nb.rl.policy import Policy
from agentlightning_nb.rl.rows import TrainingRow, rows_of
from agentlightning_nb.rl.tiny import make_tokenizer
from agentlightning_nb.rl.weights import with_adapter
from agentlightning_nb.types import Triplet

TASKS, GROUP, RATE = 8, 8, 1e-6


def make_model(small: bool, device: str):
    "Qwen2.5-0.5B's architecture (its config.json), random."
    size = {"num_hidden_layers": 2, "vocab_size": 2000, "hidden_size": 128, "intermediate_size": 256} if small else {}
    shape = {"num_hidden_layers": 24, "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864}
    heads = (
        {"num_attention_heads": 4, "num_key_value_heads": 2}
        if small
        else {"num_attention_heads": 14, "num_key_value_heads": 2}
    )
    config = transformers.Qwen2Config(
        **(shape | size),
        **heads,
        max_position_embeddings=2048,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return transformers.Qwen2ForCausalLM(config)


def reward_of(ids: list[int]) -> float:
    "Something that differs: the share of even tokens."
    return sum(i % 2 == 0 for i in ids) / len(ids)


def prompt_ids(step: int, length: int) -> list[list[int]]:
    return [[3 + (7 * (step * TASKS + i) + 11 * j) % 400 for j in range(length)] for i in range(TASKS)]


def synchronised() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def our_steps(model, tokenizer, args) -> dict[str, list[float]]:
    "Seconds of each part of a step, the log-probability gap to the sampler, and GiB at the peak."
    half = Memory(dtype="bfloat16", micro_batch_tokens=args.micro)
    policy = Policy(model, tokenizer, optim=Optim(lr=RATE, muon=False), memory=half)
    engine = Torch(copy=True, dtype="bfloat16").open(model, tokenizer, max_tokens=args.new)
    found: dict[str, list[float]] = {name: [] for name in ("sampling", "rows", "update", "push", "gap", "memory")}

    async def sample(prompts):
        bodies = [{"prompt": p, "max_tokens": args.new, "ignore_eos": True} for p in prompts for _ in range(GROUP)]
        return await asyncio.gather(*map(engine.complete, bodies))

    try:
        for step in range(args.steps):
            began = synchronised()
            replies = asyncio.run(sample(prompt_ids(step, args.prompt)))
            sampled = synchronised()
            worth = group_advantages(
                [reward_of(r.response_ids) for r in replies], [i // GROUP for i in range(len(replies))]
            )
            rows = [
                replace(row, advantage=a)
                for r, a in zip(replies, worth, strict=True)
                for row in rows_of([Triplet(r.prompt_ids, r.response_ids, r.logprobs, temperature=1.0)])
            ]
            made = synchronised()
            told = policy.update(rows)
            updated = synchronised()
            engine.push(model, f"step {step + 1}")
            ended = synchronised()
            for name, value in {
                "sampling": sampled - began,
                "rows": made - sampled,
                "update": updated - made,
                "push": ended - updated,
                "gap": told["logprob_gap"],
                "memory": told["peak_memory_mb"] / 1024,
            }.items():
                found[name].append(value)
    finally:
        engine.close()
    return {name: values[1:] for name, values in found.items()}


def trl_steps(model, tokenizer, args) -> list[float]:
    "Seconds of each step of TRL's trainer, after the first."
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    class Clock(transformers.TrainerCallback):
        def __init__(self):
            self.times, self.began = [], 0.0

        def on_step_begin(self, *_, **__):
            self.began = synchronised()

        def on_step_end(self, *_, **__):
            self.times.append(synchronised() - self.began)

    def reward(completion_ids, **_):
        return [reward_of(list(map(int, ids))) for ids in completion_ids]

    digits = "0123456789"
    prompts = ["".join(digits[(i + j) % 10] for j in range(args.prompt)) for i in range(TASKS * args.steps)]
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        config = GRPOConfig(
            output_dir=scratch,
            per_device_train_batch_size=args.trl_batch,
            gradient_accumulation_steps=TASKS * GROUP // args.trl_batch,
            num_generations=GROUP,
            max_completion_length=args.new,
            generation_kwargs={"min_new_tokens": args.new},
            max_steps=args.steps,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            temperature=1.0,
            beta=0.0,
            gradient_checkpointing=False,
            bf16=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            save_strategy="no",
            logging_steps=10_000,
            disable_tqdm=True,
        )
        data = Dataset.from_list([{"prompt": p} for p in prompts])
        GRPOTrainer(
            model, reward, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[clock]
        ).train()
    return clock.times[1:]


def tokens_a_second(model, tokenizer, args) -> None:
    "The engine beside transformers' generate."
    half = deepcopy(model).to(torch.bfloat16) if torch.cuda.is_available() else deepcopy(model)
    engine = Torch().open(half, tokenizer, max_tokens=args.new)
    print("\n| at once | ours, tokens/s | transformers generate, tokens/s | ratio |\n|---|---|---|---|")

    def ours(n: int) -> None:
        async def ask():
            bodies = [
                {"prompt": prompt_ids(i, args.prompt)[0], "max_tokens": args.new, "ignore_eos": True} for i in range(n)
            ]
            await asyncio.gather(*map(engine.complete, bodies))

        asyncio.run(ask())

    def theirs(n: int) -> None:
        ids = torch.tensor([prompt_ids(i, args.prompt)[0] for i in range(n)], device=half.device)
        options = {
            "do_sample": True,
            "max_new_tokens": args.new,
            "min_new_tokens": args.new,
            "pad_token_id": 0,
            "top_k": 0,
        }
        half.generate(ids, attention_mask=torch.ones_like(ids), **options)

    for n in (1, 32, 128):
        rates = []
        for way in (ours, theirs):
            way(n)
            times = []
            for _ in range(2):
                began = synchronised()
                way(n)
                times.append(synchronised() - began)
            rates.append(n * args.new / statistics.median(times))
        print(f"| {n} | {rates[0]:,.0f} | {rates[1]:,.0f} | {rates[0] / rates[1]:.1f} |", flush=True)
    engine.close()


def named(tokenizer, vocabulary: int):
    "The same tokenizer with a name for every token that a model of this vocabulary can say."
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    spec["model"]["vocab"] |= {f"<{i}>": i for i in range(len(tokenizer), vocabulary)}
    marks = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token, "pad_token": tokenizer.pad_token}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(spec)), **marks)


def beside_vllm(model, tokenizer, args) -> None:
    "The engine in the kernel beside vLLM as an engine: tokens a second, and what a push of new weights takes."
    half = deepcopy(model).to(torch.bfloat16)
    model.to("cpu")
    free()
    options = VLLM(args.vllm, arguments=("--gpu-memory-utilization", "0.4"))
    tokenizer = named(tokenizer, half.config.vocab_size)
    own = Torch().open(half, tokenizer, max_tokens=args.new)
    began = synchronised()
    other = options.open(half, tokenizer, max_tokens=args.new)
    print(f"\nvLLM answers {synchronised() - began:.0f} s after it was started.", flush=True)
    try:
        print("\n| at once | ours, tokens/s | vLLM, tokens/s | vLLM takes |\n|---|---|---|---|")
        for n in (1, 32, 128):
            found: dict[str, list[float]] = {"ours": [], "vLLM": []}
            for number in range(args.rounds + 1):
                for name, engine in (("ours", own), ("vLLM", other)):
                    prompts = [prompt_ids(i + n * number, args.prompt)[0] for i in range(n)]
                    began = synchronised()
                    asyncio.run(answered(engine, prompts, args.new))
                    found[name].append(n * args.new / (synchronised() - began))
            ours, theirs = (statistics.median(rates[1:]) for rates in found.values())
            print(f"| {n} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.1f} times as long |", flush=True)
        seconds, gaps = [], []
        for number in range(5):
            with torch.no_grad():
                for weights in half.parameters():
                    weights.mul_(1.001)
            began = synchronised()
            other.push(half, f"push {number}")
            seconds.append(synchronised() - began)
            gaps.append(other.check(half))
        print(
            f"A push: {statistics.median(seconds):.2f} s (check included); greatest difference of probabilities {max(gaps):.1e}."
        )
    finally:
        other.close()
        own.close()


async def answered(engine, prompts: list[list[int]], new: int) -> None:
    "Every prompt answered in full by an engine."
    bodies = [{"prompt": ids, "max_tokens": new, "ignore_eos": True} for ids in prompts]
    replies = await asyncio.gather(*map(engine.complete, bodies))
    assert all(len(r.response_ids) == new for r in replies)


def matrix_rate() -> float:
    "TFLOP/s of a bfloat16 matrix product of random data."
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in "ab")
    for _ in range(3):
        a @ b
    began = synchronised()
    for _ in range(10):
        a @ b
    return 10 * 2 * 8192**3 / (synchronised() - began) / 1e12


def adapter_memory(model, tokenizer, args) -> float:
    "GiB at the peak of an update of a LoRA adapter: weights, adapter, optimizer and activations."
    free()
    half = with_adapter(deepcopy(model).to(torch.bfloat16), Lora())
    model.to("cpu")
    policy = Policy(half, tokenizer, memory=Memory(dtype="bfloat16", micro_batch_tokens=4096, checkpointing=True))
    prompts = prompt_ids(0, args.prompt)
    answer = [3 + i % 400 for i in range(args.new)]
    mask = [0] * args.prompt + [1] * args.new
    rows = [
        TrainingRow(p + answer, mask, [-10.0] * len(mask), advantage=(-1.0) ** g, rollout_id=str(i))
        for i, p in enumerate(prompts)
        for g in range(GROUP)
    ]
    free()
    told = policy.update(rows)
    return told["peak_memory_mb"] / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--steps", type=int, default=4, help="steps in a round; the first is warm-up")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=256)
    parser.add_argument("--micro", type=int, default=16_384, help="tokens of our micro-batch")
    parser.add_argument("--trl-batch", type=int, default=16, help="rows of TRL's micro-batch")
    parser.add_argument("--only", choices=("step", "engine", "memory", "vllm"), help="only this part")
    parser.add_argument("--vllm", help="the Python of an environment with vLLM, for the part beside it")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("trl").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    model, tokenizer = make_model(args.small, device), make_tokenizer()
    size = sum(p.numel() for p in model.parameters())
    print(
        f"{torch.cuda.get_device_name() if cuda else 'CPU'}, torch {torch.__version__}, transformers {transformers.__version__}, {size:,} parameters"
    )
    best = matrix_rate() if cuda else float("nan")
    print(f"A bfloat16 matrix product of 8192: {best:.0f} TFLOP/s", flush=True)
    if args.only in (None, "step"):
        compare_steps(model, tokenizer, args, size, best)
    if args.only in (None, "engine"):
        tokens_a_second(model, tokenizer, args)
    if args.vllm and args.only in (None, "vllm"):
        beside_vllm(deepcopy(model), tokenizer, args)
    if args.only in (None, "memory"):
        print(
            f"\nAn update of a LoRA adapter of rank 16, {TASKS * GROUP} rows of {args.prompt} + {args.new} tokens: {adapter_memory(model, tokenizer, args):.2f} GiB at its peak",
            flush=True,
        )


def compare_steps(model, tokenizer, args, size: int, best: float) -> None:
    "The table of steps, ours and TRL's, and what of the card's rate our update reaches."
    import trl

    ours: dict[str, list[float]] = {}
    peer: list[float] = []
    for number in range(args.rounds):
        for name, values in our_steps(deepcopy(model), tokenizer, args).items():
            ours.setdefault(name, []).extend(values)
        free()
        peer += trl_steps(deepcopy(model), tokenizer, args)
        free()
        print(f"round {number + 1} of {args.rounds}: {ours} {peer}", flush=True)
    part = {name: statistics.median(values) for name, values in ours.items()}
    sampling, update, theirs = part["sampling"], part["update"], statistics.median(peer)
    whole = sampling + part["rows"] + update + part["push"]
    trained = TASKS * (args.prompt + GROUP * args.new)
    rate = 6 * size * trained / update / 1e12
    print(
        f"\nTRL {trl.__version__}; {TASKS} x {GROUP} answers of {args.new} tokens to prompts of {args.prompt}, {len(peer)} steps each"
    )
    print("| way | s a step | TRL takes |\n|---|---|---|")
    print(f"| TRL GRPOTrainer | {theirs:.2f} | 1 |")
    print(f"| ours | {whole:.2f} | {theirs / whole:.1f} times as long |")
    print("Ours, s: " + ", ".join(f"{name} {part[name]:.3f}" for name in ("sampling", "rows", "update", "push")) + ".")
    print(
        f"Sampling: {TASKS * GROUP * args.new / sampling:,.0f} tokens/s. Update: {trained:,} tokens, {rate:.0f} TFLOP/s of {best:.0f}."
    )
    print(f"Peak of the update {max(ours['memory']):.1f} GiB; log-probability gap to the sampler {part['gap']:.4f}.")


if __name__ == "__main__":
    main()
