"""Files are written by `gaprun.files`, or where nothing half-written can be taken for whole.

The package's code is searched for calls that open for writing, write, rename or delete folders; each module that has
one stands below with the reason why that is safe.
"""

from __future__ import annotations

import ast
from pathlib import Path

import gaprun

PACKAGE = Path(gaprun.__file__).parent
WRITES = {
    "write_text",
    "write_bytes",
    "to_csv",
    "to_parquet",
    "savefig",
    "save_file",
    "rename",
    "rmtree",
}
WRITES |= {"savez", "savez_compressed", "copyfile", "copytree"}
# Within these calls the path is a temporary one, which the caller gives its name when it is whole.
SAFE = {
    "files.py": "writes beside and moves; this is the module that all others use",
    "data/cache.py": "a memory map in which each picture carries its checksum",
    "data/columns.py": "through write_atomically",
    "data/shards.py": "a shard is hashed while it is written beside its place, then moved",
    "data/folder.py": "through write_atomically; its lock file holds nothing",
    "data/identity.py": "through write_atomically",
    "data/write.py": "moves whole shards out of its working folder",
    "arrays.py": "writes a folder of its own beside its place and moves it",
    "evaluation/keep.py": "writes into the temporary folder that is moved when whole",
    "evaluation/reference.py": "writes beside its place and moves",
    "evaluation/run.py": "writes beside its place and moves",
    "exchange/embeddings.py": "writes beside its place and moves",
    "exchange/openclip.py": "writes into the temporary folder that is moved when whole",
    "store/parquet.py": "writes into the temporary folder of an export",
    "store/export.py": "writes into the temporary folder of an export",
    "store/folders.py": "through write_atomically",
    "store/publish.py": "writes beside its place and moves",
    "store/removal.py": "deletes a run's folder after `folders` says that it is the run's own",
    "training/captions.py": "through write_atomically",
    "training/once.py": "writes into the temporary folder that is moved when whole",
    "training/checkpoint.py": "through write_atomically",
    "store/lock.py": "a lock file, which holds nothing",
    "jobs/log.py": "recipe.yaml through write_atomically; log.txt grows by a line, and a cut one harms nothing",
    "report/on_paper.py": "writes into the temporary folder that is moved when whole",
    "report/readme.py": "writes into a temporary folder beside, then moves",
    "recipe/packaged.py": "through write_atomically",
    "jobs/kept.py": "adds a line a number; a line that was cut off is passed over when it is read",
}


def writes_of(tree: ast.AST) -> set[int]:
    """Lines on which something is opened for writing, written, moved or deleted as a tree."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        modes += [
            k.value.value for k in node.keywords if k.arg == "mode" and isinstance(k.value, ast.Constant)
        ]
        opened = name in ("open", "ZipFile") and any(str(mode)[:1] in ("w", "a", "x") for mode in modes)
        saved = (
            name == "save"
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) in ("np", "torch")
        )
        if opened or saved or name in WRITES:
            found.add(node.lineno)
    return found


def test_files_are_written_in_known_places_only() -> None:
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in sorted(PACKAGE.rglob("*.py"))
        if (lines := writes_of(ast.parse(path.read_text(encoding="utf-8"))))
    }
    strange = {name: lines for name, lines in found.items() if name not in SAFE}
    assert strange == {}, "write through gaprun.files, or say above why this cannot be seen half-written"


def test_the_search_finds_what_it_should() -> None:
    lines = ["open(p, 'w')", "p.open('wb')", "p.write_text(t)", "np.save(f, a)", "open(p)", "p.open('rb')"]
    code = "\n".join([*lines, "shutil.rmtree(p)", "f.save(x)"])
    assert writes_of(ast.parse(code)) == {1, 2, 3, 4, 7}
