"""What verl's own functions say of a fixed batch, for the tests to compare with. Run where verl is installed:

python tests/data/from_verl.py > tests/data/verl.json
"""

import json
import sys

import numpy as np
import torch
import verl
from verl.trainer.ppo import core_algos

B, T = 12, 9


def batch() -> dict[str, list]:
    "Rewards, groups, masks and log-probabilities; off-policy enough that every branch of the clip is taken."
    torch.manual_seed(0)
    length = torch.randint(2, T + 1, (B,))
    old = -torch.rand(B, T, dtype=torch.float64) * 3
    return {
        "rewards": [1, 0, 0, 0, 0.5, 0.5, 1, 0, 1, 1, 1, 0.25],
        "groups": ["a"] * 4 + ["b"] * 4 + ["c"] * 4,
        "mask": (torch.arange(T)[None] < length[:, None]).int().tolist(),
        "old": old.tolist(),
        "now": (old + 0.6 * torch.randn(B, T, dtype=torch.float64)).tolist(),
    }


def judged(b: dict[str, list]) -> dict:
    "Advantages under both scalings; loss and gradient under several clips."
    mask, old = torch.tensor(b["mask"]), torch.tensor(b["old"])
    rewards = torch.zeros(B, T)
    rewards[:, 0] = torch.tensor(b["rewards"])
    advantages, found = {}, []
    for scale, by_std in (("none", False), ("group", True)):
        computed, _ = core_algos.compute_grpo_outcome_advantage(
            rewards, torch.ones_like(mask), np.array(b["groups"]), norm_adv_by_std_in_grpo=by_std
        )
        advantages[scale] = computed[:, 0].tolist()
    for low, high, dual in ((0.2, 0.2, 3.0), (0.2, 0.28, 3.0), (0.2, 0.28, 1.5)):
        now = torch.tensor(b["now"], requires_grad=True)
        spread = torch.tensor(advantages["none"])[:, None].expand(B, T)
        loss, clipped, _, lower = core_algos.compute_policy_loss(
            old, now, spread, mask, cliprange=0.2, cliprange_low=low, cliprange_high=high, clip_ratio_c=dual
        )
        loss.backward()
        told = {"loss": loss.item(), "clipped": clipped.item(), "lower": lower.item(), "gradient": now.grad.tolist()}
        found.append({"low": low, "high": high, "dual": dual} | told)
    return {"advantages": advantages, "losses": found}


if __name__ == "__main__":
    made = batch()
    json.dump({"verl": verl.__version__, "batch": made, "judged": judged(made)}, sys.stdout)
