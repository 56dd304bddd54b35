"""The page that shows the notebook of `examples/` as it ran over a published file, with its pictures."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

from opportunity_sync.settings import PROJECT

NOTEBOOK = PROJECT / "examples" / "pipeline.ipynb"
IMAGES = "images"
"""Folder of the pictures, below the page's."""


@dataclass(frozen=True)
class NotebookPage:
    """A page and the pictures it shows."""

    text: str
    images: dict[str, bytes]
    """By path relative to the page."""


def run_notebook(database: Path, scratch: Path) -> nbformat.NotebookNode:
    """Run every cell in a kernel of its own; an error in a cell is raised here.

    Args:
        database: the published file it reads.
        scratch: an empty folder for what Jupyter and matplotlib remember.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
        config=Config({"KernelManager": {"transport_encryption": "required"}}),  # other users share the loopback device
    )
    client.execute(
        env=os.environ
        | {
            "OPPORTUNITIES_DUCKDB": str(database),
            "IPYTHONDIR": str(scratch / "ipython"),
            "MATPLOTLIBRC": str(Path(__file__).with_name("matplotlibrc")),
            "SOURCE_DATE_EPOCH": "0",
        }
    )
    return notebook


def notebook_page(database: Path, scratch: Path) -> NotebookPage:
    """The notebook as Markdown. What matplotlib draws can differ between machines, the text cannot."""
    notebook = run_notebook(database, scratch)
    for cell in notebook.cells:
        outputs = cell.get("outputs", ())
        cell["outputs"] = [
            output for output in outputs if output.get("name") != "stderr"
        ]  # such as "building font cache"
    config = Config(
        {
            "ExtractOutputPreprocessor": {"output_filename_template": "{unique_key}-{cell_index}{extension}"},
            "NbConvertBase": {"display_data_priority": ["image/svg+xml", "text/plain"]},
        }
    )
    resources = {"unique_key": NOTEBOOK.stem, "output_files_dir": IMAGES}
    text, found = MarkdownExporter(config=config).from_notebook_node(notebook, resources)
    return NotebookPage(text=_with_alternative_texts(text).strip("\n") + "\n", images=found["outputs"])


def _with_alternative_texts(text: str) -> str:
    """Call each picture by the heading above it, for those who cannot see it."""
    lines, heading = [], ""
    for line in text.splitlines():
        heading = line.lstrip("# ") if line.startswith("## ") else heading
        lines.append(re.sub(r"^!\[svg\]", f"![{heading}]", line.rstrip()))
    return "\n".join(lines)
