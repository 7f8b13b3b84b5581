"""The engine in the kernel beside vLLM's CPU build and transformers' generate: the same weights, prompts and number of tokens, alternating.

    pip install -e '.[train]'
    python benchmarks/engine.py --vllm PATH_OF_A_PYTHON_WITH_VLLM

Every answer has the same length, sampled at temperature 1. vLLM runs in a process of its own, its engine inside that process and asked
without HTTP. The second table is what a request costs that agents send: CPU of the kernel for HTTP, proxy, prompt, record and answer,
without the sampling thread and without the caller, who is another process.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NEW, PROMPT = 64, 40  # tokens
WORKER_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


def prompts(n: int) -> list[list[int]]:
    "Different prompts."
    return [[3 + (7 * i + 11 * j) % 400 for j in range(PROMPT)] for i in range(n)]


def vllm_worker(folder: str) -> None:
    "Reads batch sizes, writes seconds; runs under vLLM's Python."
    from vllm import LLM, SamplingParams

    llm = LLM(
        folder, dtype="float32", enforce_eager=True, enable_prefix_caching=False, max_model_len=256, max_num_seqs=256
    )
    asked = SamplingParams(temperature=1.0, max_tokens=NEW, ignore_eos=True, logprobs=0)
    print("ready", flush=True)
    for line in sys.stdin:
        batch = [{"prompt_token_ids": ids} for ids in prompts(int(line))]
        began = time.perf_counter()
        done = llm.generate(batch, asked, use_tqdm=False)
        assert all(len(d.outputs[0].token_ids) == NEW for d in done)
        print(f"seconds {time.perf_counter() - began}", flush=True)


@contextlib.contextmanager
def vllm_clock(python: str, folder: str):
    "A function from a batch size to seconds."
    with subprocess.Popen(
        [python, __file__, "--worker", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | WORKER_ENVIRONMENT,
    ) as process:

        def answer(word: str) -> str:
            for line in process.stdout:
                if line.startswith(word):
                    return line.split()[-1]
            raise RuntimeError("vLLM's worker has ended")

        def clock(n: int) -> float:
            print(n, file=process.stdin, flush=True)
            return float(answer("seconds"))

        answer("ready")
        try:
            yield clock
        finally:
            process.stdin.close()


def engine_clock(engine):
    def clock(n: int) -> float:
        async def all_of_them() -> None:
            bodies = [{"prompt": ids, "max_tokens": NEW, "ignore_eos": True} for ids in prompts(n)]
            await asyncio.gather(*map(engine.complete, bodies))

        began = time.perf_counter()
        asyncio.run(all_of_them())
        return time.perf_counter() - began

    return clock


def generate_clock(model):
    import torch

    def clock(n: int) -> float:
        ids = torch.tensor(prompts(n))
        began = time.perf_counter()
        options = {"do_sample": True, "max_new_tokens": NEW, "min_new_tokens": NEW, "pad_token_id": 0, "top_k": 0}
        model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        return time.perf_counter() - began

    return clock


CALLER = """
import asyncio, sys
from aiohttp import ClientSession
url, token, n, at_once = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
body = {"model": "policy", "messages": [{"role": "user", "content": "What is 12 + 34?"}], "max_tokens": 4}

async def main():
    async with ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        left = iter(range(n))

        async def ask():
            for _ in left:
                async with session.post(url, json=body) as reply:
                    assert reply.status == 200, await reply.text()
                    await reply.read()

        await asyncio.gather(*(ask() for _ in range(at_once)))

asyncio.run(main())
"""


def thread_seconds(thread) -> float:
    "CPU seconds of a thread of this process (Linux)."
    fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request_cost(model, tokenizer, at_once: int, n: int = 1000) -> tuple[float, float]:
    "Milliseconds of CPU of one request beside the model, and of the model."
    from agentlightning_nb.engines.torch import TorchEngine
    from agentlightning_nb.server import AgentLightningServer
    from agentlightning_nb.store import LightningStore
    from agentlightning_nb.types import LLM

    with tempfile.TemporaryDirectory() as scratch, LightningStore(Path(scratch, "run.db")) as store:
        with TorchEngine(model, tokenizer) as engine, AgentLightningServer(store, upstream=engine) as server:
            version = store.add_resources({"llm": LLM("policy")}).resources_id
            claimed = store.start_rollout("task", resources_id=version)
            url = f"{server.url}/rollout/{claimed.rollout_id}/attempt/{claimed.attempt.attempt_id}/v1/chat/completions"
            command = [sys.executable, "-c", CALLER, url, server.token]
            subprocess.run([*command, "50", str(at_once)], check=True)
            before, sampled = time.process_time(), thread_seconds(engine.sampler._thread)
            subprocess.run([*command, str(n), str(at_once)], check=True)
            sampled = thread_seconds(engine.sampler._thread) - sampled
            whole = time.process_time() - before
    return 1000 * (whole - sampled) / n, 1000 * sampled / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm", help="the Python of an environment with vLLM")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return vllm_worker(args.worker)

    import torch
    import transformers

    from agentlightning_nb.engines.torch import TorchEngine
    from agentlightning_nb.rl.tiny import make_model, make_tokenizer
    from agentlightning_nb.rl.weights import save_model

    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer).eval()
    found: dict[tuple[str, int], list[float]] = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        save_model(model, tokenizer, folder)
        engine = stack.enter_context(TorchEngine(model, tokenizer))
        clocks = {"ours": engine_clock(engine), "transformers generate": generate_clock(model)}
        if args.vllm:
            clocks["vLLM CPU"] = stack.enter_context(vllm_clock(args.vllm, folder))
        for number in range(args.rounds + 1):
            for n in args.batches:
                for name, clock in clocks.items():
                    seconds = clock(n)
                    if number:
                        found.setdefault((name, n), []).append(n * NEW / seconds)
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}, one thread, {NEW} tokens each\n"
    )
    print(
        "| at once | "
        + " | ".join(f"{name}, tokens/s" for name in clocks)
        + " |\n|---" * 1
        + "|---" * len(clocks)
        + "|"
    )
    for n in args.batches:
        rates = [found[name, n] for name in clocks]
        print(
            f"| {n} | " + " | ".join(f"{statistics.median(r):,.0f} ({min(r):,.0f}-{max(r):,.0f})" for r in rates) + " |"
        )
    print("\n| calls at once | ms CPU a call beside the model | of the model, 4 tokens |\n|---|---|---|")
    for at_once in (1, 32):
        beside, sampling = request_cost(model, tokenizer, at_once)
        print(f"| {at_once} | {beside:.2f} | {sampling:.2f} |")


if __name__ == "__main__":
    main()
