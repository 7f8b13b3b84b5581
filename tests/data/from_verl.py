"""What verl's own functions say of a fixed batch, for the tests to compare with. Run where verl is installed:

python tests/data/from_verl.py > tests/data/verl.json
"""

import json
import sys
from collections.abc import Iterator

import numpy as np
import torch
import verl
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_weights
from verl.workers.config import ActorConfig

B, T = 12, 9
AGGREGATED = {"tokens": "token-mean", "sequences": "seq-mean-token-mean", "constant": "seq-mean-token-sum-norm"}
ESTIMATORS = ("rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline", "grpo_passk", "opo")
CONSTANT = 20


def batch() -> dict[str, list]:
    "Rewards, groups, masks and log-probabilities; off-policy enough that every branch of the clip is taken."
    torch.manual_seed(0)
    length = torch.randint(2, T + 1, (B,))
    old = -torch.rand(B, T, dtype=torch.float64) * 3
    made = {
        "rewards": [1, 0, 0, 0, 0.5, 0.5, 1, 0, 1, 1, 1, 0.25],
        "groups": ["a"] * 4 + ["b"] * 4 + ["c"] * 4,
        "mask": (torch.arange(T)[None] < length[:, None]).int().tolist(),
        "old": old.tolist(),
        "now": (old + 0.6 * torch.randn(B, T, dtype=torch.float64)).tolist(),
    }
    behaviour = old + 0.8 * torch.randn(B, T, dtype=torch.float64)
    reference = old + 0.5 * torch.randn(B, T, dtype=torch.float64)
    return made | {"behaviour": behaviour.tolist(), "reference": reference.tolist(), "constant": CONSTANT}


def advantages(b: dict[str, list]) -> dict[str, list[float]]:
    "By each estimator; those of a rollout stand on its first token."
    mask, index, found = torch.tensor(b["mask"]), np.array(b["groups"]), {}
    rewards = torch.zeros(B, T)
    rewards[torch.arange(B), mask.sum(1) - 1] = torch.tensor(b["rewards"])
    for scale, by_std in (("none", False), ("group", True)):
        computed, _ = core_algos.compute_grpo_outcome_advantage(rewards, mask, index, norm_adv_by_std_in_grpo=by_std)
        found[scale] = computed[:, 0].tolist()
    for name in ESTIMATORS:
        estimate = core_algos.get_adv_estimator_fn(name)
        given = {"token_level_rewards": rewards, "response_mask": mask.float(), "config": AlgoConfig(gamma=1.0)}
        found[name] = estimate(index=index, **given)[0][:, 0].tolist()
    return found


def losses(b: dict[str, list], advantage: list[float]) -> list[dict]:
    "PPO's loss and gradient under several clips."
    mask, old, found = torch.tensor(b["mask"]), torch.tensor(b["old"]), []
    for low, high, dual in ((0.2, 0.2, 3.0), (0.2, 0.28, 3.0), (0.2, 0.28, 1.5)):
        now = torch.tensor(b["now"], requires_grad=True)
        spread = torch.tensor(advantage)[:, None].expand(B, T)
        loss, clipped, _, lower = core_algos.compute_policy_loss(
            old, now, spread, mask, cliprange=0.2, cliprange_low=low, cliprange_high=high, clip_ratio_c=dual
        )
        loss.backward()
        told = {"loss": loss.item(), "clipped": clipped.item(), "lower": lower.item(), "gradient": now.grad.tolist()}
        found.append({"low": low, "high": high, "dual": dual} | told)
    return found


def config(low: float, high: float, mode: str) -> ActorConfig:
    clip = {"clip_ratio": low, "clip_ratio_low": low, "clip_ratio_high": high, "clip_ratio_c": 3.0}
    made = ActorConfig(strategy="fsdp", rollout_n=4, ppo_micro_batch_size_per_gpu=1, loss_agg_mode=mode, **clip)
    made.global_batch_info.update({"dp_size": 1, "loss_scale_factor": CONSTANT})
    return made


def named_losses(b: dict[str, list], advantage: list[float]) -> Iterator[dict]:
    "Each named loss under each way of dividing, with and without weights for the sampler's mismatch."
    mask, old = torch.tensor(b["mask"]), torch.tensor(b["old"])
    weights = (old - torch.tensor(b["behaviour"])).exp().clamp(max=2.0)
    spread = torch.tensor(advantage, dtype=torch.float64)[:, None].expand(B, T)
    for name, low, high in (("vanilla", 0.2, 0.28), ("gspo", 0.05, 0.08), ("cispo", 0.3, 0.4)):
        for normalise, mode in AGGREGATED.items():
            for weighted in (False, True):
                now = torch.tensor(b["now"], requires_grad=True)
                loss, told = core_algos.get_policy_loss_fn(name)(
                    old_log_prob=old,
                    log_prob=now,
                    advantages=spread,
                    response_mask=mask,
                    loss_agg_mode=mode,
                    config=config(low, high, mode),
                    rollout_is_weights=weights if weighted else None,
                )
                loss.backward()
                yield {
                    "name": name,
                    "low": low,
                    "high": high,
                    "normalise": normalise,
                    "weighted": weighted,
                    "loss": loss.item(),
                    "gradient": now.grad.tolist(),
                    "clipped": told["actor/pg_clipfrac"] + told["actor/pg_clipfrac_lower"],
                }


def divergences(b: dict[str, list]) -> Iterator[dict]:
    "The KL penalties whose gradients are right, aggregated over tokens."
    mask, reference = torch.tensor(b["mask"]), torch.tensor(b["reference"])
    for kind in ("k2", "k3+"):
        now = torch.tensor(b["now"], requires_grad=True)
        loss = core_algos.agg_loss(core_algos.kl_penalty(now, reference, kind), mask, "token-mean")
        loss.backward()
        yield {"kind": kind, "loss": loss.item(), "gradient": now.grad.tolist()}


def weights(b: dict[str, list]) -> Iterator[dict]:
    "Weights for the sampler's mismatch, by token and by sequence; a threshold of two bounds masks outside of them."
    mask, gap = torch.tensor(b["mask"]).float(), torch.tensor(b["old"]) - torch.tensor(b["behaviour"])
    for level in ("token", "sequence"):
        for how, threshold in (("tis", 2.0), ("mis", "0.5_5.0")):
            found, _ = compute_rollout_correction_weights(gap, mask, level, threshold)
            yield {"how": how, "level": level, "weights": (found * mask).tolist()}


if __name__ == "__main__":
    made = batch()
    by_name = advantages(made)
    judged = {
        "advantages": by_name,
        "losses": losses(made, by_name["none"]),
        "named": list(named_losses(made, by_name["none"])),
        "divergences": list(divergences(made)),
        "weights": list(weights(made)),
    }
    json.dump({"verl": verl.__version__, "batch": made, "judged": judged}, sys.stdout)
