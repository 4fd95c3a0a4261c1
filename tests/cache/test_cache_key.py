"""The key tells the truth: any change of a field is another key, and nothing else is."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from cachekit import GRID, KEY, OTHER_KEY, POOLED, fill, make_ids, raw_rows, vectors
from hypothesis import given
from hypothesis import strategies as st

from cache import BaseKey, Block, CacheError, CacheLayoutError, Column

GOLDEN_JSON = (
    '{"architecture":"resnet18","decoder":"pillow","fit":"squash","interpolation":"bicubic","layout":1,'
    '"mean":[0.485,0.456,0.406],"pixel_policy":1,"precision":"fp32","size":224,"std":[0.229,0.224,0.225],'
    '"weights_sha256":"abababababababababababababababababababababababababababababababab"}'
)
GOLDEN_DIGEST = "e05c3e08e7475fcd53ab72515917d7b0e1d8791841940c3e11f4540a0467feb1"

finite = st.floats(min_value=-10, max_value=10, allow_nan=False)
triples = st.tuples(finite, finite, finite)
texts = st.text(min_size=1, max_size=20)
keys = st.builds(
    BaseKey,
    weights_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    architecture=texts,
    size=st.integers(1, 4096),
    fit=texts,
    interpolation=texts,
    mean=triples,
    std=triples,
    pixel_policy=st.integers(0, 99),
    decoder=texts,
    precision=st.sampled_from(["fp32", "half"]),
)


def test_digest_is_the_sha256_of_hand_written_json():
    """The literal was computed from the text above, not by this package."""
    assert hashlib.sha256(GOLDEN_JSON.encode()).hexdigest() == GOLDEN_DIGEST
    assert KEY.digest == GOLDEN_DIGEST


@given(first=keys, second=keys)
def test_digests_are_equal_exactly_when_keys_are(first, second):
    assert (first.digest == second.digest) == (first == second)


@given(key=keys, other=keys, field=st.sampled_from([item.name for item in dataclasses.fields(BaseKey)]))
def test_changing_any_one_field_changes_the_digest(key, other, field):
    value = key.layout + 1 if field == "layout" else getattr(other, field)
    changed = dataclasses.replace(key, **{field: value})
    if value == getattr(key, field):
        assert changed.digest == key.digest
    else:
        assert changed.digest != key.digest
        before, after = key.to_json(), changed.to_json()
        assert [name for name in before if before[name] != after[name]] == [field]


@given(key=keys, order=st.randoms())
def test_field_order_does_not_matter(key, order):
    items = list(json.loads(json.dumps(key.to_json())).items())
    order.shuffle(items)
    assert BaseKey.from_json(dict(items)) == key
    assert BaseKey.from_json(dict(items)).digest == key.digest


def test_number_types_and_the_hash_seed_do_not_matter():
    same = dataclasses.replace(
        KEY, size=np.int64(224), mean=[np.float64(0.485), 0.456, 0.406], std=(0.229, 0.224, 0.225), pixel_policy=True
    )
    assert same.digest == GOLDEN_DIGEST
    code = "import sys; sys.path[:0] = sys.argv[1:]; import cachekit; print(cachekit.KEY.digest)"
    done = subprocess.run(
        [sys.executable, "-c", code, *sys.path], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert done.stdout.strip() == GOLDEN_DIGEST


def test_block_and_view_have_digests_of_their_own():
    blocks = [Block("pooled", 8), Block("pooled", 9), Block("levels", 8), Block("pooled", 8, {"levels": ["a"]})]
    digests = {block.digest(KEY) for block in blocks} | {block.digest(OTHER_KEY) for block in blocks}
    assert len(digests) == 8
    assert len({Column(blocks[0], view).digest(KEY) for view in ("identity", "hflip", "vflip")}) == 3


def test_block_params_survive_json_and_hash():
    assert Block.from_json(json.loads(json.dumps(GRID.block.to_json()))) == GRID.block
    assert hash(Block("grid", 12, {"columns": 2, "rows": 2})) == hash(GRID.block)
    assert Block("grid", 1, {"shape": (2, 2)}) == Block("grid", 1, {"shape": [2, 2]})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weights_sha256": "short"}, "expected 64 lower-case hex digits"),
        ({"precision": "bf16"}, "expected one of fp32, half"),
        ({"mean": (float("nan"), 0, 0)}, "expected finite numbers"),
    ],
)
def test_impossible_keys_are_refused(change, text):
    with pytest.raises(CacheError, match=text):
        dataclasses.replace(KEY, **change)


def test_impossible_blocks_and_views_are_refused():
    with pytest.raises(CacheError, match=r"block name '\.\./x'"):
        Block("../x", 8)
    with pytest.raises(CacheError, match="expected a whole number, 1 or more"):
        Block("pooled", 0)
    with pytest.raises(CacheError, match="view 'h flip'"):
        Column(Block("pooled", 8), "h flip")
    with pytest.raises(CacheError, match="a key can hold numbers"):
        Block("pooled", 8, {"odd": object()})


def test_keys_of_another_layout_or_with_odd_fields_are_refused():
    with pytest.raises(CacheLayoutError, match=r"cache layout 0 was found; this version reads layout 1.*cache prune"):
        BaseKey.from_json({**KEY.to_json(), "layout": 0})
    with pytest.raises(CacheError, match="unknown fields was found: flavour"):
        BaseKey.from_json({**KEY.to_json(), "flavour": "sweet"})


def test_two_weight_files_of_one_name_never_share_rows(tmp_path):
    ids = make_ids(3)
    cache = fill(tmp_path, ids, key=KEY)
    with cache.writer(OTHER_KEY) as writer:
        assert writer.missing(ids, POOLED).all()
        writer.append(ids, {POOLED: vectors(ids) + 1})
    first = cache.reader(KEY.digest).read(ids, [POOLED])
    second = cache.reader(OTHER_KEY.digest).read(ids, [POOLED])
    np.testing.assert_array_equal(second - first, np.ones((3, 8), np.float32))
    assert len(raw_rows(tmp_path, POOLED, KEY)) == len(raw_rows(tmp_path, POOLED, OTHER_KEY)) == 3
