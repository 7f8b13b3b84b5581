"The plain data behind every picture: computed from a store, compared with `==`, drawn elsewhere."

from .curves import RewardCurve, RewardPoint, reward_curve
from .rollouts import RolloutView, ToolUse, Turn, conversation, rollout_view

__all__ = [
    "RewardCurve",
    "RewardPoint",
    "RolloutView",
    "ToolUse",
    "Turn",
    "conversation",
    "reward_curve",
    "rollout_view",
]
