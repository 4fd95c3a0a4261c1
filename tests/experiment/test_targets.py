"""What the heads are asked under each rule for unknown cells and for attributes that do not apply."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.catalogue import LabelSchema, coded, infer_schema, read_catalogue
from pipeline.experiment.rows import fit_targets, inapplicable_negative
from pipeline.options import DataOptions
from tests.catalogue.dummies import dummies_view


def test_unknown_as_negative_is_the_dummies_with_the_first_category_dropped(tmp_path: Path) -> None:
    rows = [(f"{i}.jpg", ["#N/A", "0", "1", "2"][i % 4], ["1", "#N/A", "0"][i % 3]) for i in range(12)]
    table = tmp_path / "attributes.csv"
    table.write_text("filename,sleeve,neck\n" + "".join(",".join(row) + "\n" for row in rows))
    for name, *_ in rows:
        (tmp_path / name).write_bytes(b"x")
    catalogue = read_catalogue(DataOptions(data=table))
    targets = fit_targets(infer_schema(catalogue), catalogue.cells, None, "negative")
    names = [f"{attribute}_{value}" for attribute, value in targets.schema.labels]
    dummies = dummies_view(table).loc[list(catalogue.filenames)]
    assert sorted(dummies.columns) == sorted(names)
    assert len(names) == 5
    assert np.array_equal(targets.Y.astype(bool), dummies[names].to_numpy())
    assert targets.mask.all()
    assert (~targets.known).sum() == 3 * 3 + 4 * 2
    assert fit_targets(infer_schema(catalogue), catalogue.cells, None, "class").schema.size == 5 + 2


def test_a_key_that_does_not_apply_can_count_as_known_to_have_no_value() -> None:
    cells = {
        "category": coded([("shirt",), ("skirt",), ("skirt",), ("skirt",)]),
        "neck": coded([("v",), (), ("round",), None]),
    }
    gate = {"shirt": ("neck",), "skirt": ()}
    schema = LabelSchema(("category", "neck"), (("shirt", "skirt"), ("round", "v")), (True, True), gate, "category")
    categories = [cell[0] for cell in cells["category"]]  # type: ignore[index]
    plain = fit_targets(schema, cells, categories, "mask")
    assert plain.known[:, 2].tolist() == [True, False, False, False]
    counted = inapplicable_negative(plain, cells, categories)
    assert counted.known[:, 2:].tolist() == [[True] * 2, [True] * 2, [False] * 2, [False] * 2]
    assert counted.mask.tolist() == counted.known.tolist()
    assert (counted.Y * counted.mask)[:, 2:].tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]
    extra = inapplicable_negative(fit_targets(schema, cells, categories, "class"), cells, categories)
    assert extra.known[1].tolist() == [True, True, False, True, True, False]
    assert extra.Y[1].tolist() == [0, 1, 0, 0, 0, 0]
