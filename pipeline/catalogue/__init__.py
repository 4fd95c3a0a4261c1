"""Catalogues: photos with labels from any input format, their label schema and their splits."""

from pipeline.catalogue.cells import Cell, Coded, coded
from pipeline.catalogue.findings import DROPS, KINDS, Finding, count_kinds
from pipeline.catalogue.keyed_split import keyed_split
from pipeline.catalogue.labels import UNKNOWN, LabelSchema, column_name, split_column
from pipeline.catalogue.reading.read import FORMATS, read_catalogue
from pipeline.catalogue.records import Catalogue
from pipeline.catalogue.schema import (
    alike_in_test,
    empty_attributes,
    infer_schema,
    never_in_train,
    same_content,
    single_or_multi,
)
from pipeline.catalogue.split_file import SplitFile, apply_split, read_split, split_rows, write_split
from pipeline.catalogue.splits import (
    LARGEST_GROUP,
    PARTS,
    Split,
    groups_of,
    identities_of,
    join_groups,
    name_digests,
    named_products,
    parse_split,
)
from pipeline.catalogue.stratified import make_split, place_groups

__all__ = [
    "DROPS",
    "FORMATS",
    "KINDS",
    "LARGEST_GROUP",
    "PARTS",
    "UNKNOWN",
    "Catalogue",
    "Cell",
    "Coded",
    "Finding",
    "LabelSchema",
    "Split",
    "SplitFile",
    "alike_in_test",
    "apply_split",
    "coded",
    "column_name",
    "count_kinds",
    "empty_attributes",
    "groups_of",
    "identities_of",
    "infer_schema",
    "join_groups",
    "keyed_split",
    "make_split",
    "name_digests",
    "named_products",
    "never_in_train",
    "parse_split",
    "place_groups",
    "read_catalogue",
    "read_split",
    "same_content",
    "single_or_multi",
    "split_column",
    "split_rows",
    "write_split",
]
