"Train AI agents from a notebook: wrap any agent, watch it learn, keep the whole run as one file."

import sys
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

ROOMS = {  # what may be taken from the package itself, as from `import agentlightning as agl`, and the room that is then imported
    "algorithms.apo": ("APO",),
    "algorithms.gepa": ("GEPA",),
    "algorithms.grpo": ("GRPO",),
    "algorithms.sft": ("SFT",),
    "algorithms.verl": ("VERL",),
    "client": ("LightningClient",),
    "litagent": ("LitAgent", "rollout"),
    "server": ("AgentLightningServer",),
    "store": ("LightningStore",),
    "tracer": ("emit_reward",),
    "trainer": ("Trainer",),
    "types": ("LLM", "AgentLightningTask", "AgentResource", "ModelWeights", "PromptTemplate", "ToolDefinition"),
}


def __getattr__(name: str) -> Any:
    for room, names in ROOMS.items():
        if name in names:
            return getattr(import_module(f"agentlightning_nb.{room}"), name)
    raise AttributeError(f"module 'agentlightning_nb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in ROOMS.values() for name in names)])


def load_ipython_extension(shell: Any) -> None:
    "Let rollouts and runs display themselves, and give `%lightning`. Importing the package in a notebook does this already."

    def show(name: str) -> Any:  # the widgets are imported when something is shown, not before
        return lambda *args: getattr(import_module("agentlightning_nb.widgets.show"), name)(*args)

    formatter, rollout = shell.display_formatter, ("agentlightning_nb.types.rollouts", "LitRollout")
    formatter.formatters["text/plain"].for_type_by_name(*rollout, show("rollout_pretty"))
    formatter.mimebundle_formatter.for_type_by_name(*rollout, show("rollout_bundle"))
    formatter.mimebundle_formatter.for_type_by_name("agentlightning_nb.run", "TrainingRun", show("run_bundle"))
    formatter.ipython_display_formatter.for_type_by_name("agentlightning_nb.run", "TrainingRun", show("run_display"))
    rescored = "agentlightning_nb.rescoring", "Rescored"
    formatter.formatters["text/html"].for_type_by_name(*rescored, show("rescored_html"))
    formatter.ipython_display_formatter.for_type_by_name(*rescored, show("rescored_display"))
    formatter.formatters["text/plain"].for_type_by_name(*rescored, show("rescored_pretty"))
    _lazy_magics(shell)


def _lazy_magics(shell: Any) -> None:
    "Magics that import their room when they are first used."

    def used(kind: str) -> Any:
        def first(line: str, cell: str | None = None) -> Any:
            import_module("agentlightning_nb.magics").register(shell)
            return shell.run_line_magic(kind, line) if cell is None else shell.run_cell_magic(kind, line, cell)

        return first

    shell.register_magic_function(used("lightning"), "line_cell", "lightning")
    shell.register_magic_function(used("reward"), "cell", "reward")
    shell.set_hook("complete_command", _complete_lightning, re_key=r"^%{1,2}lightning")


def _complete_lightning(shell: Any, event: Any) -> list[str]:
    return import_module("agentlightning_nb.commands").completions(event)


def _in_ipython() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


if (_shell := _in_ipython()) is not None and getattr(_shell, "display_formatter", None) is not None:
    load_ipython_extension(_shell)
