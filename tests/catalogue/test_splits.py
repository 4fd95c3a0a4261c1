"""Groups that stay together, splits that are fair, and split files that carry over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalogue import PARTS, Split, apply_split, groups_of, make_split, parse_split, read_split, write_split
from pipeline.errors import CatalogueError, OptionError


def ids_of(*contents: str) -> npt.NDArray[np.bytes_]:
    return np.array([c.encode() for c in contents], "S32")


# Groups


def test_photos_of_one_product_share_the_name_up_to_the_last_number() -> None:
    names = ["x-1.jpg", "x-2.jpg", "x.png", "y-1-3.jpg", "y-2-1.jpg", "d/x-1.jpg", "d/x-22.jpeg", "-1.jpg", "7.jpg"]
    assert groups_of(names).tolist() == [0, 0, 0, 1, 2, 3, 3, 4, 5]


def test_identical_bytes_join_products_in_chains() -> None:
    names = ["a-1.jpg", "a-2.jpg", "b-1.jpg", "b-2.jpg", "c.jpg", "d.jpg"]
    assert groups_of(names, ids=ids_of("1", "2", "2", "3", "3", "4")).tolist() == [0, 0, 0, 0, 0, 1]


def test_unreadable_photos_are_not_joined() -> None:
    assert groups_of(["a.jpg", "b.jpg"], ids=ids_of("", "")).tolist() == [0, 1]


def test_a_regex_names_the_product() -> None:
    names = ["s1_red.jpg", "s1_blue.jpg", "s2_red.jpg", "other.jpg", "more.jpg"]
    assert groups_of(names, regex=r"(s\d)_").tolist() == [0, 0, 1, 2, 3]
    assert groups_of(names, regex=r"s\d").tolist() == [0, 0, 1, 2, 3]
    with pytest.raises(OptionError, match=r"--group-regex '\(' is no regular expression"):
        groups_of(names, regex="(")
    with pytest.raises(CatalogueError, match=r"--group-regex 'zzz' matches not one file name, such as 's1_red.jpg'"):
        groups_of(names, regex="zzz")


def test_a_column_names_the_product() -> None:
    names = ["a-1.jpg", "a-2.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert groups_of(names, column=["P", "Q", "P", None, None]).tolist() == [0, 1, 0, 2, 3]
    assert groups_of([]).tolist() == []


# Splits


@pytest.mark.parametrize(("text", "expected"), [("64/16/20", (0.64, 0.16, 0.2)), ("70/15/15", (0.7, 0.15, 0.15))])
def test_shares(text: str, expected: tuple[float, float, float]) -> None:
    assert parse_split(text) == expected


@pytest.mark.parametrize("text", ["80/20", "64/16/21", "100/0/0", "120/-40/20", "a/b/c", "", "nan/nan/nan", "64 16 20"])
def test_bad_shares(text: str) -> None:
    with pytest.raises(OptionError, match=r"expected three percentages above 0 that sum to 100"):
        parse_split(text)


def single_key(
    values: npt.NDArray[np.int64], known: npt.NDArray[np.bool_] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    Y = (values[:, None] == np.arange(values.max() + 1)).astype(np.uint8)
    mask = np.ones(Y.shape, bool) if known is None else np.repeat(known[:, None], Y.shape[1], 1)
    return Y, mask


def test_sizes_and_shares_come_out_right_on_skewed_labels() -> None:
    rng = np.random.default_rng(3)
    values = rng.choice(6, p=[0.6, 0.2, 0.1, 0.05, 0.03, 0.02], size=3000)
    groups = np.sort(rng.integers(1000, size=3000))
    groups = np.unique(groups, return_inverse=True)[1]
    Y, mask = single_key(values, rng.random(3000) > 0.2)
    split = make_split(groups, Y, mask)
    sizes = np.array([split.counts()[part] for part in PARTS]) / 3000
    assert np.abs(sizes - [0.64, 0.16, 0.20]).max() < 0.01
    for value in range(6):
        rows = (values == value) & mask[:, 0]
        share = np.array([(split.parts[rows] == part).mean() for part in PARTS])
        assert np.abs(share - [0.64, 0.16, 0.20]).max() < 0.03
    assert split.not_measurable == ()


def test_a_value_with_four_groups_is_in_every_part_and_one_with_three_is_in_train() -> None:
    values = np.array([0] * 60 + [1] * 4 + [2] * 3)
    Y, mask = single_key(values)
    split = make_split(np.arange(67), Y, mask, labels=("many", "four", "three"))
    assert sorted(split.parts[values == 1].tolist()) == ["test", "train", "train", "validation"]
    assert split.parts[values == 2].tolist() == ["train"] * 3
    assert split.not_measurable == ("three",)


def test_the_seed_decides_and_nothing_else() -> None:
    Y, mask = single_key(np.arange(200) % 3)
    one, again, other = (make_split(np.arange(200), Y, mask, seed=seed).parts.tolist() for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_masked_labels_do_not_count() -> None:
    Y, mask = single_key(np.array([0] * 20 + [1] * 8))
    mask[20:, 1] = False
    assert make_split(np.arange(28), Y, mask).not_measurable == ()


def test_one_large_group_names_the_option() -> None:
    Y, mask = single_key(np.zeros(20, np.int64))
    groups = np.array([0] * 5 + list(range(1, 16)))
    with pytest.raises(CatalogueError, match=r"One group has 5 of 20 photos, more than 20%.*--group-regex"):
        make_split(groups, Y, mask)
    make_split(np.array([0] * 4 + list(range(1, 17))), Y, mask)


def test_too_few_groups() -> None:
    Y, mask = single_key(np.array([0, 1, 0]))
    with pytest.raises(CatalogueError, match=r"3 photo\(s\) in 1 group\(s\) cannot be split.*--group-regex"):
        make_split(np.zeros(3, np.int64), Y, mask)
    with pytest.raises(CatalogueError, match=r"0 photo\(s\) in 0 group\(s\)"):
        make_split(np.zeros(0, np.int64), Y[:0], mask[:0])
    assert sorted(make_split(np.arange(3), Y, mask).parts.tolist()) == ["test", "train", "validation"]


def test_rows_without_any_known_label_are_split_by_size() -> None:
    split = make_split(np.arange(100), np.zeros((100, 4), np.uint8), np.zeros((100, 4), bool))
    assert split.counts() == {"train": 64, "validation": 16, "test": 20}
    assert make_split(np.arange(100), np.zeros((100, 0), np.uint8), np.zeros((100, 0), bool)).counts() == split.counts()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=25, max_size=80),
    labels=st.integers(1, 12),
    seed=st.integers(0, 2**31),
    fractions=st.sampled_from([(0.64, 0.16, 0.20), (0.5, 0.25, 0.25), (0.8, 0.1, 0.1)]),
)
def test_every_row_is_in_one_part_and_no_group_crosses(
    sizes: list[int], labels: int, seed: int, fractions: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    Y = (rng.random((len(groups), labels)) < rng.random(labels)).astype(np.uint8)
    mask = rng.random(Y.shape) < 0.8
    split = make_split(groups, Y, mask, fractions, seed)
    assert len(split.parts) == len(groups)
    assert sum(split.counts().values()) == len(groups)
    assert min(split.counts().values()) > 0
    assert all(len(set(split.parts[groups == g].tolist())) == 1 for g in range(len(sizes)))
    positive = (Y == 1) & mask
    missing = [
        str(i)
        for i in range(labels)
        if positive[:, i].any() and not all(positive[split.parts == p, i].any() for p in PARTS)
    ]
    assert list(split.not_measurable) == missing


# Split files

NAMES = ["a.jpg", 'quo"te,\n.jpg', "ü.jpg"]
IDS = ids_of("A" * 32, "B" * 31, "")
SPLIT = Split(np.array(["train", "validation", "test"]))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_split(tmp_path / "split.csv", NAMES, IDS, np.array([0, 1, 2]), SPLIT)
    return tmp_path / "split.csv"


def test_the_file_has_one_line_per_photo(written: Path) -> None:
    b = "42" * 31 + "00"
    expected = (
        f'photo,content,group,part\na.jpg,{"41" * 32},0,train\n"quo""te,\n.jpg",{b},1,validation\nü.jpg,,2,test\n'
    )
    assert written.read_text(encoding="utf-8") == expected
    assert [p.name for p in written.parent.iterdir()] == ["split.csv"]


def test_a_split_is_read_back_from_the_file_or_its_folder(written: Path) -> None:
    for place in (written, written.parent):
        table = read_split(place)
        assert table.photos == NAMES
        assert table.parts == ["train", "validation", "test"]
        assert table.groups == [0, 1, 2]
        parts, findings = apply_split(table, NAMES, IDS, np.arange(3))
        assert parts == SPLIT.parts.tolist()
        assert findings == ()


def test_a_renamed_photo_is_known_by_its_bytes(written: Path) -> None:
    parts, findings = apply_split(read_split(written), ["new.jpg"], IDS[1:2], np.zeros(1, np.int64))
    assert parts == ["validation"]
    assert [(f.kind, f.detail) for f in findings] == [
        ("split-row-unused", f"2 row(s) of {written} name no photo of this catalogue")
    ]


def test_a_file_that_names_no_photo_is_another_catalogues(written: Path) -> None:
    with pytest.raises(
        CatalogueError, match=r"split.csv names none of the 1 photos, such as 'new.jpg'; its own are .*'a"
    ):
        apply_split(read_split(written), ["new.jpg"], ids_of("x"), np.arange(1))


def test_a_new_photo_joins_its_product_and_of_a_torn_one_what_is_trained_on(written: Path) -> None:
    names, ids = ["n-1.jpg", *NAMES, "n-2.jpg", "n-3.jpg"], ids_of("x", "A" * 32, "B" * 31, "", "y", "z")
    parts, findings = apply_split(read_split(written), names, ids, np.array([1, 0, 1, 2, 2, 3]))
    assert parts == ["validation", "train", "validation", "test", "test", ""]
    assert findings == ()
    parts, findings = apply_split(read_split(written), names, ids, np.array([0, 0, 1, 0, 0, 3]))
    assert parts == ["train", "train", "validation", "test", "train", ""]
    assert [f.kind for f in findings] == ["group-crosses-parts"]


def test_a_photo_whose_bytes_are_in_another_part_is_an_error(written: Path) -> None:
    with pytest.raises(CatalogueError, match=r"a.jpg is in part train of .* same bytes are in part validation"):
        apply_split(read_split(written), ["a.jpg"], IDS[1:2], np.zeros(1, np.int64))


def test_products_that_a_given_split_tears_apart_are_reported(written: Path) -> None:
    _, findings = apply_split(read_split(written), NAMES, IDS, np.array([0, 0, 1]))
    assert [f.kind for f in findings] == ["group-crosses-parts"]


def test_a_photo_with_other_bytes_than_the_file_says_is_reported(written: Path) -> None:
    parts, findings = apply_split(read_split(written), NAMES, ids_of("new", "B" * 31, "x"), np.arange(3))
    assert parts == SPLIT.parts.tolist()
    detail = f"1 photo(s) have other bytes than {written} says; each keeps the part of its name"
    assert [(f.kind, f.filename, f.detail) for f in findings] == [("split-content-changed", "a.jpg", detail)]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a.jpg,,0,train\nb.jpg,,1,test\na.jpg,,0,test\n", r"a.jpg is on two lines, in part train and in part test"),
        ("a.jpg,,0,train\na.jpg,,0,train\n", r"a.jpg is on two lines"),
        (
            f"a.jpg,{'ab' * 32},0,train\nb.jpg,{'AB' * 32},1,test\n",
            "a.jpg in part train and b.jpg in part test have the same content",
        ),
    ],
)
def test_a_photo_is_never_in_two_parts(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "split.csv").write_text("photo,content,group,part\n" + text)
    with pytest.raises(CatalogueError, match=match):
        read_split(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("photo,part\na.jpg,train\n", "expected a split file with the columns photo, content, group, part"),
        (
            "photo,content,group,part\na.jpg,,0,dev\n",
            "line 2: group '0', part 'dev'; expected .* train, validation, test",
        ),
        ("photo,content,group,part\na.jpg,,x,test\n", "line 2: group 'x', part 'test'"),
        ("photo,content,group,part\na.jpg\n", "line 2: group None, part None"),
        (f"photo,content,group,part\na.jpg,,{'9' * 30},test\n", "line 2: group '9999"),
        (f"photo,content,group,part\na.jpg,,{'9' * 5000},test\n", "line 2: group '9999"),
        ("photo,content,group,part\na.jpg,xyz,0,test\n", "line 2: content 'xyz'; expected 64 hexadecimal digits"),
        ("photo,content,group,part\na.jpg,,0,test,more\n", "line 2: .* in 4 cells"),
    ],
)
def test_damaged_split_files(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(CatalogueError, match=match):
        read_split(tmp_path)


def test_no_split_file(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"split.csv: no such file\. It takes a split.csv or a run folder"):
        read_split(tmp_path)
