"""The page in a real browser, with photos that are really dropped, pasted and chosen, and names that try to be code."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.predict import predict
from pipeline.model.predictor import Predictor
from pipeline.options import PredictOptions
from tests.browser import opened_page
from tests.serving.served import Running, jpeg

HOSTILE = "=1+1,<img src=x onerror=alert(1)>.jpg"
AS_SERVED = PredictOptions(device="cpu", runtime="torch", batch_size=4, workers=1, probabilities=True)
PUT = """({photos, how}) => {
  const data = new DataTransfer();
  for (const [name, content] of photos) {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    data.items.add(new File([bytes], name, {type: "image/jpeg"}));
  }
  const given = {bubbles: true, cancelable: true};
  const event = how === "paste" ? new ClipboardEvent("paste", {...given, clipboardData: data})
    : new DragEvent(how, {...given, dataTransfer: data});
  document.querySelector("main").dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def opened(server: Running) -> Iterator[tuple[Any, list[str], Running]]:
    """The page on a phone in the dark, and everything that it logged, raised or asked of another host."""
    address = server.server.address
    with opened_page(address, own=("blob:", "data:", address)) as (page, heard):
        yield page, heard, server


def put(page: Any, photos: Sequence[tuple[str, bytes]], how: str = "drop") -> None:
    page.evaluate(PUT, {"photos": [(name, base64.b64encode(data).decode()) for name, data in photos], "how": how})


def settled(page: Any, text: str) -> None:
    page.locator("#told", has_text=text).wait_for()


def shown(page: Any, card: int) -> dict[str, str]:
    """Attribute to what is said of it."""
    parts = page.locator(".shot").nth(card).locator(".attribute")
    names, said = parts.locator("h4").all_text_contents(), parts.locator(".said").all_text_contents()
    return dict(zip(names, said, strict=True))


def as_shown(values: dict[str, Any]) -> dict[str, str]:
    joined = {name: ", ".join([value] if isinstance(value, str) else value or []) for name, value in values.items()}
    return {name: text or "unknown" for name, text in joined.items()}


@pytest.fixture
def fresh(opened: tuple[Any, list[str], Running]) -> Iterator[Any]:
    page, heard, _ = opened
    if page.locator("#clear").is_enabled():
        page.locator("#clear").click()
    settled(page, "No photos yet.")
    yield page
    failed = [text for text in heard if "status of 422" not in text]
    assert failed == [], "nothing was logged but that a photo was refused, and no other host asked"


def test_photos_that_are_dropped_show_what_the_model_says(fresh: Any, model_path: Path) -> None:
    page = fresh
    put(page, [], "dragover")
    assert "dragging" in page.locator("body").get_attribute("class")
    photos = [("a.jpg", jpeg(1)), (HOSTILE, jpeg(2)), ("broken.jpg", jpeg(3)[:200])]
    put(page, photos)
    settled(page, "2 of 3 photos answered, 1 not taken")
    assert page.locator("body").get_attribute("class") == ""
    expected = Predictor(model_path, AS_SERVED).predict([data for _, data in photos[:2]])
    assert [shown(page, i) for i in range(2)] == [as_shown(values) for values in expected]  # type: ignore[arg-type]
    assert page.locator(".shot h3").all_text_contents() == [name for name, _ in photos]
    assert page.locator(".shot").nth(2).locator(".failed").text_content().startswith("Not taken: damaged")
    (chances, _) = Predictor(model_path, AS_SERVED).predict_proba([data for _, data in photos[:2]])
    bar = page.locator(".shot").first.locator(".attribute").first.locator("li").first
    assert bar.locator(".p").text_content() == f"{max(chances['neck'].values()):.0%}".replace("%", " %")  # type: ignore[union-attr]
    width = bar.locator(".bar i").evaluate("bar => bar.offsetWidth / bar.parentNode.offsetWidth")
    assert width == pytest.approx(max(chances["neck"].values()), abs=0.02)  # type: ignore[union-attr]
    assert page.evaluate("document.documentElement.scrollWidth") == 400, "nothing is wider than a phone"


def test_photos_can_be_pasted_chosen_and_removed_by_keyboard(fresh: Any) -> None:
    page = fresh
    put(page, [("image.png", jpeg(1, kind="PNG"))], "paste")
    settled(page, "1 of 1 photo answered")
    page.locator("#files").set_input_files([{"name": "b.jpg", "mimeType": "image/jpeg", "buffer": jpeg(2)}])
    settled(page, "2 of 2 photos answered")
    page.get_by_role("button", name="Remove image.png").focus()
    page.keyboard.press("Enter")
    settled(page, "1 of 1 photo answered")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove b.jpg"
    page.locator("#clear").focus()
    page.keyboard.press("Space")
    settled(page, "No photos yet.")
    assert page.evaluate("document.activeElement.id") == "files"


def test_the_threshold_decides_as_the_server_would(fresh: Any, opened: Any) -> None:
    page, server = fresh, opened[2]
    put(page, [("a.jpg", jpeg(1))])
    settled(page, "1 of 1 photo answered")
    own = shown(page, 0)
    page.locator("#threshold").focus()
    seen = set()
    for threshold in ("0.00", "0.12", "0.50", "0.57", "1.00"):
        page.locator("#threshold").fill(threshold)
        assert page.locator("#threshold-now").text_content() == threshold
        _, answer = server.predict(jpeg(1), f"?threshold={threshold}")
        assert shown(page, 0) == as_shown(answer["photos"][0]["values"])
        seen.add(str(shown(page, 0)))
    assert len(seen) >= 3 and "'neck': 'unknown'" in str(shown(page, 0))
    page.keyboard.press("ArrowLeft")
    assert page.locator("#threshold").get_attribute("aria-valuetext") == "0.99"
    page.locator("#own").click()
    assert shown(page, 0) == own


def test_the_rule_of_the_page_is_that_of_the_server_with_gates_and_unknown_as_a_value(fresh: Any) -> None:
    import numpy as np

    from pipeline.catalogue.labels import LabelSchema
    from pipeline.evaluation.thresholds import decide

    values = (("dress", "shoe", "#N/A"), ("short", "long"), ("red", "blue", "#N/A"))
    schema = LabelSchema(
        ("type", "sleeve", "colour"), values, (True, True, False), {"shoe": ("colour",), "hat": ()}, "type"
    )
    rng = np.random.default_rng(0)
    P = np.round(rng.random((300, schema.size)), 2).astype(np.float32)
    limits = np.round(rng.random(schema.size), 2)
    by_value = [
        {a: dict(zip(v, row[at].astype(float).round(6).tolist(), strict=True)) for a, v, at in zip(
            schema.attributes, values, schema.slices, strict=True)}
        for row in (*P, limits)
    ]  # fmt: skip
    model = {
        "attributes": [
            {"name": a, "values": v, "single": s}
            for a, v, s in zip(schema.attributes, values, schema.single, strict=True)
        ],
        "gate": schema.gate, "category": "type", "thresholds": by_value.pop(),
    }  # fmt: skip
    found = fresh.evaluate("([model, rows]) => rows.map((row) => rules.decided(model, row, null))", [model, by_value])
    D = decide(P.astype(np.float64).round(6).astype(np.float32), schema, limits)
    flat = [value for of_it in values for value in of_it]
    for row, said, p in zip(D, found, P, strict=True):
        if np.isclose(p, limits, atol=1e-6).any():
            continue  # float32 beside the text of a number
        expected = {a: [flat[j] for j in range(at.start, at.stop) if row[j]] for a, at in zip(
            schema.attributes, schema.slices, strict=True)}  # fmt: skip
        assert said == expected


def test_the_table_is_the_one_that_predict_writes(fresh: Any, model_path: Path, tmp_path: Path) -> None:
    page = fresh
    photos = [(HOSTILE, jpeg(2)), ("broken.jpg", jpeg(3)[:200]), ("plain.jpg", jpeg(1))]
    put(page, photos)
    settled(page, "2 of 3 photos answered, 1 not taken")
    with page.expect_download() as waited:
        page.locator("#csv").click()
    rows = list(csv.reader(io.StringIO(Path(waited.value.path()).read_text(encoding="utf-8"))))
    for i, (_, data) in enumerate(photos):
        (tmp_path / f"{i}.jpg").write_bytes(data)
    out = tmp_path / "p.csv"
    predict([tmp_path], model_path, replace(AS_SERVED, out=out))
    expected = list(csv.reader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert waited.value.suggested_filename == "predictions.csv"
    assert rows[0] == expected[0] and [row[0] for row in rows[1:]] == [f"'{HOSTILE}", "broken.jpg", "plain.jpg"]
    for found, wanted in zip(rows[1:], expected[1:], strict=True):
        assert found[1:3] == wanted[1:3]
        for mine, theirs in zip(found[3:], wanted[3:], strict=True):
            numbers = [float(p) for p in theirs.strip("[]").replace(",", "|").split("|") if p]
            assert [float(p) for p in mine.split("|") if p] == pytest.approx(numbers, abs=2e-5)


def test_cells_are_guarded_and_joined_as_the_files_of_every_command(fresh: Any) -> None:
    from pipeline.catalogue.joined import joined
    from pipeline.spreadsheet import guarded

    texts = ["=1+1", "'=1", "''@x", "-5", "-5a", "+3.5%", "-", "＝x", "\tx", "a=b", "'80s", "@", "1e5", "-1e-7"]
    assert fresh.evaluate("(texts) => texts.map(rules.cell)", texts) == [guarded(text) for text in texts]
    assert fresh.evaluate("() => rules.cell('a,\"b')") == '"a,""b"'
    several = ["a|b", "c\\", "d\\|e", "\\\\", "plain", "x\\y"]
    assert fresh.evaluate("(values) => rules.joined(values)", several) == joined(several)


def test_another_model_answers_for_the_photos_that_are_there(fresh: Any) -> None:
    page = fresh
    put(page, [("a.jpg", jpeg(1))])
    settled(page, "1 of 1 photo answered")
    page.locator("#model").select_option("second")
    settled(page, "1 of 1 photo answered")
    assert "second" in page.locator("#facts").text_content()
    page.locator("#model").select_option("best")
    settled(page, "1 of 1 photo answered")


def test_nothing_is_stored_and_nothing_else_may_run(fresh: Any, opened: Any) -> None:
    page = fresh
    assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]
    page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)"
    )
    assert page.evaluate("window.ran") is None
    refused = [text for text in opened[1] if "Content Security Policy" in text]
    assert refused
    for text in refused:
        opened[1].remove(text)
