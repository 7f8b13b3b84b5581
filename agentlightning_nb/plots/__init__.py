"Plotly figures of views: of a run, of groups, of versions and comparisons, of rollouts."

from .groups import group_figure, groups_figure
from .rollouts import ratios_figure, rescored_figure, tokens_figure, trace_figure
from .runs import health_figure, parts_figure, reward_figure
from .versions import (
    compare_figure,
    layers_figure,
    lineage_figure,
    matrix_figure,
    movers_figure,
    sides_figure,
)

__all__ = [
    "compare_figure",
    "group_figure",
    "groups_figure",
    "health_figure",
    "layers_figure",
    "lineage_figure",
    "matrix_figure",
    "movers_figure",
    "parts_figure",
    "ratios_figure",
    "rescored_figure",
    "reward_figure",
    "sides_figure",
    "tokens_figure",
    "trace_figure",
]
