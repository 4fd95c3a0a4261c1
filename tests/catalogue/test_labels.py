"""The names of label columns: one name per label, whatever attributes and values are called."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.catalogue import LabelSchema, column_name, split_column

PIECES = st.text(st.sampled_from("ab=%235D\\ü "), max_size=8)


@given(PIECES, PIECES)
@example("a%3Db", "c")
@example("%%25", "=")
@example("%2=", "")
def test_a_column_is_read_back_as_the_label_it_was_made_of(attribute: str, value: str) -> None:
    assert split_column(column_name(attribute, value)) == (attribute, value)


def test_labels_that_would_share_a_name_do_not() -> None:
    schema = LabelSchema(("a=b", "a", "a%3Db"), (("c",), ("b=c",), ("c",)), (True, True, True))
    assert schema.column_names == ("a%3Db=c", "a=b=c", "a%253Db=c")


@pytest.mark.parametrize(("attribute", "value"), [("neck type", "v-neck"), ("100% cotton", "50/50"), ("a\\b", "x=1")])
def test_ordinary_names_are_as_they_always_were(attribute: str, value: str) -> None:
    assert column_name(attribute, value) == f"{attribute}={value}"


def test_a_name_of_no_label_has_no_attribute() -> None:
    assert split_column("photo") == ("", "photo")
