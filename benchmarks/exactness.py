"""How far the numbers of an update are from verl's and TRL's on the same batch, and the engine's probabilities from the trainer's. Prints a table.

python benchmarks/exactness.py            # TRL's rows where trl is installed; verl's numbers are those in tests/data/verl.json
"""

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import test_rl_exact as exact  # noqa: E402
import test_rl_fifty as fifty  # noqa: E402

from agentlightning_nb.rl.advantages import advantages  # noqa: E402
from agentlightning_nb.rl.losses import kl_penalty, mismatch_weights  # noqa: E402
from agentlightning_nb.rl.options import Memory, Mismatch, Optim  # noqa: E402
from agentlightning_nb.rl.policy import Policy, one_thread  # noqa: E402
from agentlightning_nb.rl.tiny import make_model, make_tokenizer  # noqa: E402

Row = tuple[
    str, str, float, float | None
]  # what, beside whom, greatest difference of values, relative difference (L2) of gradients


def of_verl() -> Iterator[Row]:
    "Advantages, losses, penalties and weights."
    b, judged = exact.BATCH, exact.JUDGED
    for theirs, ours in exact.NAMES.items():
        found = advantages(ours, b["rewards"], b["groups"], exact.LENGTHS)
        yield f"advantage {ours}", "verl", _greatest(found, judged["advantages"][theirs]), None
    for case in judged["named"]:
        loss, gradient, _ = exact.loss_of(case)
        weighted = ", TIS" if case["weighted"] else ""
        off = exact.relative(gradient, exact.flat(case["gradient"]))
        yield f"loss {case['name']}, {case['normalise']}{weighted}", "verl", abs(loss - case["loss"]), off
    for case in judged["divergences"]:
        now = exact.flat(b["now"]).requires_grad_()
        loss = kl_penalty(now, exact.flat(b["reference"]), case["kind"]).mean()
        loss.backward()
        off = exact.relative(now.grad, exact.flat(case["gradient"]))
        yield f"penalty {case['kind']}", "verl", abs(loss.item() - case["loss"]), off
    for case in judged["weights"]:
        mismatch = Mismatch(case["how"], case["level"])
        found = mismatch_weights(exact.flat(b["old"]), exact.flat(b["behaviour"]), exact.ROW, len(exact.MASK), mismatch)
        yield f"weights {case['how']}, {case['level']}", "verl", _greatest(found, exact.flat(case["weights"])), None


def of_trl() -> Iterator[Row]:
    "A whole update: forward, loss and gradients of every weight."
    if importlib.util.find_spec("trl") is None:
        return
    for name in exact.OF_TRL:
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs, off = exact.beside_trl(name, make_tokenizer(), folder)
        yield f"update {name}", "TRL", abs(ours - theirs), off


def of_ourselves() -> Iterator[Row]:
    "Micro-batches, masks, and what the engine samples."
    tokenizer = make_tokenizer()

    def gradient(tokens: int) -> torch.Tensor:
        optim, memory = Optim(max_grad_norm=1e9), Memory(micro_batch_tokens=tokens)
        policy = Policy(make_model(tokenizer, seed=3), tokenizer, optim=optim, memory=memory)
        policy.update(exact.some_rows(policy), rate=0.0)
        return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])

    whole = gradient(16_384)
    for tokens in (64, 32, 1):
        part = gradient(tokens)
        yield (
            f"micro-batches of {tokens} tokens at most",
            "the whole batch",
            _greatest(part, whole),
            exact.relative(part, whole),
        )
    policy = Policy(make_model(tokenizer, seed=3), tokenizer)
    rows = exact.some_rows(policy)
    policy.update(rows)  # so that there is momentum
    before = torch.cat([p.detach().flatten().clone() for p in policy.model.parameters()])
    policy.update([replace(r, finish_reason="length", answers=()) for r in rows])
    after = torch.cat([p.detach().flatten() for p in policy.model.parameters()])
    yield "weights after a batch of truncated answers", "before it", _greatest(after, before), None
    for tied, apart in fifty.KINDS:
        found, _ = fifty.differences(tied, apart)
        head, where = "tied" if tied else "own", "a copy" if apart else "the trained weights"
        yield (
            f"probabilities of 100 samples over 50 updates, {head} head, sampled from {where}",
            "the trainer",
            max(found),
            None,
        )


def _greatest(a: object, b: object) -> float:
    return (torch.as_tensor(a, dtype=torch.float64) - torch.as_tensor(b, dtype=torch.float64)).abs().max().item()


def main() -> int:
    print("| what | beside | values differ by | gradients differ by |\n|---|---|---|---|", flush=True)
    worst = 0.0
    with one_thread(True):
        for part in (of_verl, of_trl, of_ourselves):
            for what, beside, values, gradients in part():
                worst = max(worst, values, gradients or 0.0)
                print(
                    f"| {what} | {beside} | {values:.1e} | {'' if gradients is None else f'{gradients:.1e}'} |",
                    flush=True,
                )
    print(f"\nThe greatest difference is {worst:.1e}.")
    return 0 if worst < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
