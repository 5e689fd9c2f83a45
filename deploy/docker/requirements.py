# noqa: INP001 - a script of the build, no package
"""What an image of one service installs, read from the projects themselves, so that nothing is listed twice.

``requirements.py third-party SERVICE``: the requirements of the service and of those of our projects that it stands on.
``requirements.py projects SERVICE``: the folders of those projects. Runs in the image's build, before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

OURS = re.compile(r"^cosmop-([a-z-]+)(\[[a-z,]+\])?$")


def read(folder: Path, extras: str = "") -> list[str]:
    """A project's requirements, those of its named extras (``[datasets]``) included."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project.get("optional-dependencies", {})
    return [*project["dependencies"], *(r for extra in extras.strip("[]").split(",") if extra for r in optional[extra])]


def resolve(services: Path, service: str) -> tuple[list[str], list[Path]]:
    """Third-party requirements, and our projects' folders, foundations first."""
    third_party: dict[str, None] = {}
    projects: dict[Path, None] = {}

    def visit(folder: Path, extras: str) -> None:
        for requirement in read(folder, extras):
            if match := OURS.match(requirement):
                visit(services / match[1], match[2] or "")
            else:
                third_party[requirement] = None
        projects[folder] = None

    visit(services / service, "")
    return sorted(third_party), list(projects)


def main() -> None:
    """Prints one per line."""
    what, service = sys.argv[1:]
    third_party, projects = resolve(Path("services"), service)
    sys.stdout.write("\n".join(third_party if what == "third-party" else map(str, projects)) + "\n")


if __name__ == "__main__":
    main()
