"Train AI agents from a notebook: wrap any agent, watch it learn, keep the whole run as one file."

import sys
from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def load_ipython_extension(shell: Any) -> None:
    "Let rollouts and runs display themselves. Importing the package in a notebook does this already."

    def show(name: str) -> Any:  # the widgets are imported when something is shown, not before
        return lambda *args: getattr(import_module("agentlightning_nb.widgets.show"), name)(*args)

    formatter = shell.display_formatter
    formatter.formatters["text/plain"].for_type_by_name("agentlightning_nb.types", "LitRollout", show("rollout_pretty"))
    formatter.formatters["text/html"].for_type_by_name("agentlightning_nb.types", "LitRollout", show("rollout_html"))
    formatter.mimebundle_formatter.for_type_by_name("agentlightning_nb.run", "TrainingRun", show("run_bundle"))
    formatter.ipython_display_formatter.for_type_by_name("agentlightning_nb.run", "TrainingRun", show("run_display"))


def _in_ipython() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


if (_shell := _in_ipython()) is not None and getattr(_shell, "display_formatter", None) is not None:
    load_ipython_extension(_shell)
