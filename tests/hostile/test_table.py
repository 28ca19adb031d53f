"""The table in README.md is true: every test that it names is there, and every number has one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
TEXT = (HERE / "README.md").read_text()


@cache
def named_in(path: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, functions)}


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`([\w./]+\.py)(?:::(\w+))?`", TEXT)
    assert len(named) > 70
    for file, test in named:
        path = (HERE / file).resolve()
        assert path.is_file(), file
        assert not test or test in named_in(path), f"{file}::{test}"


def test_every_number_has_a_row() -> None:
    numbers = {
        int(number) for cell in re.findall(r"^\| ([\d, ]+) \|", TEXT, flags=re.MULTILINE) for number in cell.split(", ")
    }
    assert numbers == {*range(1, 37), *range(41, 61)}
