"""The sources of the packages that herdling needs: named, dated, the same each time."""

from itertools import islice

from herdling.base.ledger import Ledger
from herdling.starter.packages import edition, needed_packages, package_texts
from herdling.starter.text import made_from


def test_what_herdling_needs_is_there_and_no_more():
    names = {package.name.lower() for package in needed_packages()}
    assert {"torch", "numpy", "pydantic"} <= names
    assert "herdling" not in names
    assert "pytest" not in names  # an extra's


def test_versions_are_part_of_what_the_text_was_made_from():
    assert "torch==" in edition()
    assert edition() in made_from("packages")
    assert edition() not in made_from("library")


def test_the_order_mixes_packages_and_is_the_same_each_time(tmp_path):
    first = [name for name, _ in islice(package_texts(Ledger("x"), tmp_path), 60)]
    assert first == [name for name, _ in islice(package_texts(Ledger("x"), tmp_path), 60)]
    assert len({name.split(".")[0] for name in first}) > 3
