"""Runs a tutorial and keeps what its cells show, small enough to be read on the site: python tools/save_outputs.py nbs/tutorials/quickstart.ipynb

A figure is kept as its plotly JSON alone, without the copy of the library that stands beside it. A traceback keeps the ends of its paths."""

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FIGURE = "application/vnd.plotly.v1+json"
FOLDERS = re.compile(r'(?<=File ")/(?:[^"/]+/)*(?=[^"/]+/[^"/]+")')  # all but the last one of a path


def run(path: Path) -> None:
    "Execute in a folder of its own and write the outputs into the notebook."
    notebook = nbformat.read(path, 4)
    with tempfile.TemporaryDirectory() as scratch:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": scratch}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if FIGURE in output.get("data", {}):
                output.data.pop("text/html", None)
            if "text" in output:
                output.text = FOLDERS.sub("", output.text)
    notebook.metadata.pop("widgets", None)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(Path(name))
