"""The reference of the API is that of the protos."""

import re
from pathlib import Path

from maskmesh.v1 import segmentation_pb2
from tools.make_api_reference import reference

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_is_up_to_date() -> None:
    """If this fails: python -m tools.make_api_reference docs/api.md."""
    assert (DOCS / "api.md").read_text(encoding="utf-8") == reference()


def test_every_call_and_link_is_there() -> None:
    text = reference()
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", text, re.MULTILINE)}
    methods = segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"].methods
    assert {method.name.lower() for method in methods} <= headings
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= headings
    assert not re.search(r"\|\s*\|\s*$", text, re.MULTILINE), "every field has a meaning"
