"README.md is made from nbs/index.ipynb: `python tools/readme.py` writes it."

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def readme() -> str:
    "The index notebook as markdown: prose with its links seen from here, code and what it prints in fences, `#| hide` cells left out."
    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"]).strip()
        if not source or source.startswith(("#| hide", "---\n")):
            continue
        parts.append(seen_from_root(source) if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        printed = [o for o in cell.get("outputs", []) if o.get("name") == "stdout"]
        parts += [f"```\n{''.join(o['text']).strip()}\n```" for o in printed]
    return "\n\n".join(parts) + "\n"


def seen_from_root(prose: str) -> str:
    "The prose of nbs/ with its relative links turned."
    return re.sub(r"\]\((?!https?:|#)(\.\./)?", lambda m: "](" if m[1] else "](nbs/", prose)


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
