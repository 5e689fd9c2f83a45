"""Writes docs/collections.md from ``cosmop_common.collection``, whose docstrings are the one source."""

from __future__ import annotations

import sys
from pathlib import Path

from cosmop_common.collection import Collection
from pydantic import BaseModel

TARGET = Path(__file__).resolve().parent.parent / "docs" / "collections.md"
HEAD = """# Collections

A collection is one dataset project: a YAML file with its concept, classes, search keywords, and the settings of every stage that shape the data. An
unknown key is refused, with the keys that are known. `collections/immigration.yaml` is the paper's own. This page is written by
`tools/document_collections.py`.

```yaml
name: borders
classes: [border, other]
positive: border
scrape:
  source: wikimedia
  keywords: [border crossing, refugees]
```

`cosmop run FILE` stores it and starts the pipeline. A setting that changes (a distance, a model) re-decides from stored hashes and scores.
"""


def table(model: type[BaseModel]) -> str:
    """The fields of one section."""
    rows = ["| key | default | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            continue
        default = "required" if field.is_required() else f"`{field.default!r}`"
        rows.append(f"| `{name}` | {default} | {' '.join((field.description or '').split())} |")
    return "\n".join(rows)


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## The collection\n\n" + table(Collection)]
    for name, field in Collection.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            parts.append(f"## `{name}`\n\n{' '.join((section.__doc__ or '').split())}\n\n{table(section)}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        same = TARGET.read_text(encoding="utf-8") == page()
        raise SystemExit(0 if same else "docs/collections.md is not what the code says: run tools/document_collections.py")
    TARGET.write_text(page(), encoding="utf-8")
