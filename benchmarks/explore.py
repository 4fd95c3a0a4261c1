"""How fast `similar` searches, and how smoothly the page of `map` moves, at sizes that no data here has.

python benchmarks/explore.py search --cache features --rows 1000000
python benchmarks/explore.py layout --cache features --rows 10000
python benchmarks/explore.py frames --points 100000

Vectors are mixtures of two random cached ones each, of which the first keeps 60 to 100 %, in blocks of 4,096 rows whose
columns are scaled by 0.8 to 1.2; the map's points are drawn from 40 clouds. Frames need Playwright and an installed
Chromium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cache import FeatureCache
from pipeline.arrays import Float32
from pipeline.atlas.facets import Facet
from pipeline.atlas.layout import place
from pipeline.atlas.page import render_map
from pipeline.atlas.report import MapReport
from pipeline.atlas.sheets import Sheets
from pipeline.catalogue import Coded
from pipeline.neighbours.search import Search, to_unit

QUERIES, NEAREST, SECONDS = 15, 24, 3
ATTRIBUTES, VALUES = 7, 40

MOVE = """async ([kind, seconds]) => {
  const paints = [], started = performance.now();
  while (performance.now() - started < 1000 * seconds) {
    await new Promise((next) => requestAnimationFrame(next));
    const n = paints.length;
    if (kind === "pan") plane.pan(12 * Math.sin(n / 9), 9 * Math.cos(n / 7));
    else plane.zoom(n % 120 < 60 ? 1.04 : 1 / 1.04, 400, 300);
    paints.push(plane.state.painted);
  }
  paints.sort((a, b) => a - b);
  return [paints.length / seconds, paints[paints.length >> 1], paints[Math.floor(0.95 * paints.length)]];
}"""


def mixtures(cache: Path, rows: int) -> Float32:
    """Vectors (rows, d) like the pooled ones of the first key of a cache."""
    opened = FeatureCache(cache)
    info = opened.keys()[0]
    column = next(c for c in info.columns if (c.block.name, c.view) == ("pooled", "identity"))
    reader, rng = opened.reader(info.digest), np.random.default_rng(0)
    real = reader.read(reader.ids(column), [column])
    X = np.empty((rows, real.shape[1]), np.float32)
    for start in range(0, rows, 4096):
        part = X[start : start + 4096]
        share = 0.4 * rng.random((len(part), 1), np.float32)
        part[:] = real[rng.integers(0, len(real), len(part))] * (1 - share)
        part += real[rng.integers(0, len(real), len(part))] * share
        part *= np.float32(0.8) + np.float32(0.4) * rng.random(real.shape[1], np.float32)
    return X


def search(cache: Path, rows: int) -> None:
    X = mixtures(cache, rows)
    started = time.perf_counter()
    built = Search(to_unit(X, [X.shape[1]]))
    print(f"{rows} x {X.shape[1]}: scaled and narrowed in {time.perf_counter() - started:.1f} s")
    pruned, full = [], []
    for query in X[:: max(1, rows // QUERIES)][:QUERIES]:
        started = time.perf_counter()
        found = built.nearest(query, NEAREST)
        between = time.perf_counter()
        cosine = X @ query
        expected = np.partition(cosine, -NEAREST)[-NEAREST:]
        full.append(time.perf_counter() - between)
        pruned.append(between - started)
        assert np.allclose(np.sort(found.cosine), np.sort(expected), atol=1e-5)
    for name, times in (("search", pruned), ("every number", full)):
        print(f"  {name}: median {np.median(times):.3f} s, most {max(times):.3f} s")
    print(f"  load average {os.getloadavg()[0]:.1f}")


def layout(cache: Path, rows: int) -> None:
    X = mixtures(cache, rows)
    to_unit(X, [X.shape[1]])
    for method in ("pca", "tsne"):
        started, cpu = time.perf_counter(), time.process_time()
        place(X.copy(), method, 0)
        wall, spent = time.perf_counter() - started, time.process_time() - cpu
        print(
            f"{method} of {rows}: {wall:.1f} s, {spent:.1f} s of the processor, load average {os.getloadavg()[0]:.1f}"
        )


def made_up(points: int) -> MapReport:
    """A map with seven attributes of forty values, all predicted, and no picture."""
    rng = np.random.default_rng(0)
    cloud = rng.integers(0, 40, points)
    places = rng.uniform(-0.9, 0.9, (40, 2))[cloud] + rng.normal(0, 0.04, (points, 2))
    words = [f"value {i}" for i in range(VALUES)]
    facets = []
    for i in range(ATTRIBUTES):
        codes = ((cloud + rng.integers(0, 5, points) * i) % VALUES).astype(np.int32)
        verdict, doubt = rng.integers(0, 3, points).astype(np.uint8), rng.random(points).astype(np.float32)
        facets.append(Facet(f"attribute {i}", Coded(codes, words), Coded(codes, words), verdict, doubt))
    names = tuple(f"photo-{i:06}.jpg" for i in range(points))
    within = np.clip(places, -1, 1).astype(np.float32)
    return MapReport(names, within, tuple(facets), None, Sheets((), (), {}), "made up", "none", "none", (), 0.0)


def frames(points: int) -> None:
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        page_file = Path(folder, "map.html")
        page_file.write_text(render_map(made_up(points)), encoding="utf-8")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page: Any = browser.new_page(viewport={"width": 1400, "height": 900})
        started = time.perf_counter()
        page.goto(page_file.as_uri())
        page.wait_for_function("document.querySelectorAll('#rows tr').length > 0")
        size = page_file.stat().st_size / 1e6
        print(f"{points} points, {size:.1f} MB without pictures: there after {time.perf_counter() - started:.1f} s")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        for kind in ("pan", "zoom"):
            before = spent(session)
            rate, median, late = page.evaluate(MOVE, [kind, SECONDS])
            each = 1000 * (spent(session) - before) / (rate * SECONDS)
            print(f"  {kind}: {rate:.0f} frames a second, {each:.1f} ms of the processor each;", end=" ")
            print(f"painted in {median:.1f} ms, 95 % within {late:.1f} ms")
        print(f"  load average {os.getloadavg()[0]:.1f}")
        browser.close()


def spent(session: Any) -> float:
    """Seconds of the processor that the page's main thread has had."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("search", "layout", "frames"))
    parser.add_argument("--cache", type=Path, default=Path("features"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=100_000)
    asked = parser.parse_args()
    if asked.what == "frames":
        frames(asked.points)
    else:
        {"search": search, "layout": layout}[asked.what](asked.cache, asked.rows)


if __name__ == "__main__":
    main()
