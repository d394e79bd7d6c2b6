"""The tree itself: no machine's paths in it, and the counts everyone wants to know."""

from __future__ import annotations

import re
from pathlib import Path

from tests import parallel

#: Written in pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile(
    "|".join(("/wo" + "rk/", "/ho" + r"me/\w", "/Us" + r"ers/\w", r"/ro" + r"ot/\."))
)
#: Lines above which a module is likely to hold two things.
LONG = 400


def test_no_file_names_a_path_of_somebodys_machine(tree: list[Path], root: Path) -> None:
    found = []
    for path in tree:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), 1)
            if MACHINE_PATHS.search(line)
        ]
    assert not found, "\n".join(found)


def test_what_runs_early_or_alone_is_there(root: Path) -> None:
    for start in (*parallel.ALONE, *parallel.TOGETHER, *parallel.EARLY):
        assert (root / start.partition("::")[0]).exists(), f"tests/parallel.py: {start}"


def test_marks_name_rows_that_exist(
    fault_rows: dict[int, str], fault_marks: dict[int, list[str]], report: list[str]
) -> None:
    assert list(fault_rows) == list(range(1, 126))
    assert set(fault_marks) <= set(fault_rows)
    without = [number for number in fault_rows if number not in fault_marks]
    report.append(
        f"faults and threats: {len(fault_rows) - len(without)} of {len(fault_rows)} rows have a "
        f"test; none yet: {_spans(without)}"
    )


def test_sizes_of_modules_are_counted(tree: list[Path], root: Path, report: list[str]) -> None:
    sizes = {
        path: len(path.read_text().splitlines())
        for path in tree
        if path.suffix == ".py"
        and path.name != "__init__.py"
        and "tests" not in path.relative_to(root).parts
    }
    assert sizes
    ordered = sorted(sizes.values())
    report.append(
        f"modules: {len(sizes)}, median {ordered[len(ordered) // 2]} lines, longest {ordered[-1]}"
    )
    for path, size in sorted(sizes.items()):
        if size > LONG:
            report.append(f"  {path.relative_to(root)} has {size} lines: does it hold two things?")


def _spans(numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ", ".join("-".join(map(str, span)) for span in spans) or "-"
