"""Generates ``cosmop_common.pb`` from ``proto/``: ``make proto``. With ``--check``, fails when what is committed differs.

protoc writes absolute imports (``from cosmop.v1 import ...``) for the folder it compiles; ours live one package deeper,
so the import lines are moved there.
"""

from __future__ import annotations

import argparse
import filecmp
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "services/common/cosmop_common/pb"
PACKAGES = ("cosmop/v1", "inference")
_IMPORT = re.compile(r"^(from|import) (cosmop\.v1|inference)\b", re.MULTILINE)


def generate(out: Path) -> None:
    """Writes the package of stubs and typed interfaces into ``out``."""
    protos = sorted(str(p.relative_to(ROOT / "proto")) for p in (ROOT / "proto").rglob("*.proto"))
    plugins = Path(sys.executable).parent
    command = [
        sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto"),
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}", f"--grpc_python_out={out}", f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}",
        *protos,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    for path in (*out.rglob("*.py"), *out.rglob("*.pyi")):
        text = _IMPORT.sub(r"\1 cosmop_common.pb.\2", path.read_text())
        text = re.sub(r"(?<![\w.])(cosmop\.v1|inference)\.(\w+_pb2)\b", r"cosmop_common.pb.\1.\2", text) if path.suffix == ".pyi" else text
        path.write_text(text)
    for folder in (out, out / "cosmop", *(out / p for p in PACKAGES)):
        (folder / "__init__.py").write_text('"""Generated from proto/ by `make proto`: do not edit."""\n')


def files(folder: Path) -> set[str]:
    """Relative paths of the stubs in a folder."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*.py*") if p.suffix in {".py", ".pyi"}}


def main() -> int:
    """Generates, or checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the committed stubs differ")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        if not check:
            shutil.rmtree(TARGET, ignore_errors=True)
            shutil.copytree(fresh, TARGET)
            return 0
        names = files(fresh) | files(TARGET)
        drifted = [n for n in sorted(names) if not ((fresh / n).exists() and (TARGET / n).exists() and filecmp.cmp(fresh / n, TARGET / n, shallow=False))]
    for name in drifted:
        print(f"drift: services/common/cosmop_common/pb/{name} is not what proto/ says: run `make proto` and commit", file=sys.stderr)
    return 1 if drifted else 0


if __name__ == "__main__":
    raise SystemExit(main())
