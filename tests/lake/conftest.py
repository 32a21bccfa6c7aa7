"""An empty raw bucket and an empty lake, where a test is content with dicts."""

import pytest
from dict_store import DictStore

from fleet_pipeline.lake.layout import Lake


@pytest.fixture
def raw():
    return DictStore()


@pytest.fixture
def lake():
    return Lake(DictStore(), "lake")
