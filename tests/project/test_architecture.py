"""What docs/architecture.md says of the rooms is what import-linter holds."""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "fleet_pipeline"
ROOMS = {
    path.stem
    for path in PACKAGE.iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
}


def layers():
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    house = next(each for each in contracts if each["type"] == "layers" and each["containers"] == ["fleet_pipeline"])
    assert house["exhaustive"]
    return [{room.strip(" ()") for room in line.split("|")} for line in house["layers"]]


def test_the_table_of_rooms_is_the_order_of_layers_that_is_enforced():
    page = (REPOSITORY / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == layers()


def test_every_room_is_a_layer_and_says_in_one_sentence_what_belongs_there():
    assert set().union(*layers()) == ROOMS
    for room in ROOMS:
        module = PACKAGE / room / "__init__.py" if (PACKAGE / room).is_dir() else PACKAGE / f"{room}.py"
        assert re.match(r'r?"""[^"]+\.', module.read_text()), room


def test_the_tests_mirror_the_rooms():
    folders = {path.name for path in (REPOSITORY / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert folders - {"end_to_end", "project"} <= ROOMS
    assert not list((REPOSITORY / "tests").glob("test_*.py"))
