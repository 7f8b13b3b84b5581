"Runs a function on inputs and prints what it returned; started by agent.py in a process of its own."

import json
import sys


def limit() -> None:
    "At most 2 s of processor time, 512 MB of memory, no new processes and no file contents."
    try:
        import resource
    except ImportError:  # not on Windows
        return
    for name, most in (("CPU", 2), ("AS", 512 << 20), ("FSIZE", 0), ("NPROC", 0), ("CORE", 0)):
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
        except (AttributeError, ValueError, OSError):
            continue


def results(code: str, inputs: list[int]) -> list[object] | str:
    "What f returned for each input, or what went wrong."
    names: dict[str, object] = {}
    try:
        exec(compile(code, "answer", "exec"), names)
        return [names["f"](x) for x in inputs]
    except KeyError:
        return "there is no function f"
    except BaseException as e:
        return f"{type(e).__name__}: {e}"[:80]


given = json.loads(sys.stdin.read())
limit()
print("\n" + json.dumps(results(given["code"], given["inputs"]), default=repr))
