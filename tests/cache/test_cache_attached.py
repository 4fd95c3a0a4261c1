"""Sets of ids beside a key: kept, joined, outside the digest, and never silently wrong."""

from __future__ import annotations

import pytest

from cache import CacheError, FeatureCache
from tests.cache.cachekit import KEY, POOLED, fill, folder_of, make_ids, vectors


def attach(root, *batches, name="trained_on"):
    for ids in batches:
        with FeatureCache(root).writer(KEY) as writer:
            writer.attach_ids(name, ids)


def test_ids_come_back_sorted_and_joined_and_another_name_has_none(tmp_path):
    ids = make_ids(6)
    attach(tmp_path, ids[3:], ids[:4])
    cache = FeatureCache(tmp_path)
    assert cache.attached_ids(KEY.digest, "trained_on").tolist() == sorted(ids.tolist())
    assert not len(cache.attached_ids(KEY.digest, "chosen_on"))


def test_key_and_rows_do_not_know_of_it(tmp_path):
    ids = make_ids(4)
    cache = fill(tmp_path, ids)
    attach(tmp_path, ids[:2])
    (info,) = cache.keys()
    assert (info.digest, info.rows) == (KEY.digest, 4)
    assert (cache.reader(KEY.digest).read(ids, [POOLED]) == vectors(ids)).all()
    cache.prune(ids[2:], dry_run=False)
    cache.compact()
    assert len(cache.attached_ids(KEY.digest, "trained_on")) == 2


def test_damage_is_an_error_that_verify_finds_and_repair_or_another_write_mends(tmp_path):
    ids = make_ids(3)
    cache = fill(tmp_path, ids)
    attach(tmp_path, ids)
    path = folder_of(tmp_path) / "trained_on.ids"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + b"?" + whole[-39:])
    with pytest.raises(CacheError, match=r"trained_on\.ids is damaged; run `extract` again"):
        cache.attached_ids(KEY.digest, "trained_on")
    report = cache.verify()
    assert [(problem.kind, problem.path) for problem in report.problems] == [("damaged", path)]
    attach(tmp_path, ids)
    assert path.read_bytes() == whole
    path.write_bytes(b"short")
    assert [item.source for item in cache.repair(cache.verify()).moved] == [path]
    assert cache.verify().ok


def test_a_name_cannot_leave_the_folder(tmp_path):
    with pytest.raises(CacheError, match=r"called '\.\./x'; expected lower-case letters"):
        attach(tmp_path, make_ids(1), name="../x")
