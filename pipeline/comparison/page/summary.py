"""The sentences and facts at the top of the page: what was compared and what came out."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.comparison.details import BETTER
from pipeline.comparison.page.templating import percent
from pipeline.comparison.records import AT_PRECISION, Candidate, Comparison


def prepare(comparison: Comparison) -> dict[str, object]:
    """What `summary.html` names beside the comparison: sentences, and facts as (name, value)."""
    against = comparison.against_majority
    beaten = against is None or against.verdict == BETTER
    verdict = "" if beaten else ", not shown to be better than the majority"
    return {
        "sentences": list(_sentences(comparison)),
        "facts": _facts(comparison),
        "verdict": verdict,
    }


def _sentences(comparison: Comparison) -> Iterator[str]:
    best = comparison.best_candidate
    scored = [(row.accuracy, row.attribute) for row in best.metrics.attributes if row.accuracy is not None]
    if len(scored) > 1:
        # Of several that are equally hard or easy: the first as the hardest, the last as the easiest.
        ranked = sorted(scored, key=lambda pair: pair[0])
        (low, hardest), (high, easiest) = ranked[0], ranked[-1]
        yield f"Easiest is {easiest} ({percent(high)} right), hardest {hardest} ({percent(low)}). {_amount(best)}"
    if filled := _filled(comparison):
        yield filled
    if len(comparison.candidates) > 1:
        yield _margin(comparison.candidates[1])


def _filled(comparison: Comparison) -> str:
    """How much of all attributes the best can fill in where so much must be right, by held-out thresholds."""
    mine = [row for row in comparison.coverage if row.candidate == comparison.best]
    asked = {row.target for row in mine}
    target = AT_PRECISION[0] if AT_PRECISION[0] in asked else max(asked, default=0.0)
    rows = [row for row in mine if row.target == target and row.held_out_coverage is not None]
    if not rows:
        return ""
    shares = [(row.held_out_coverage or 0.0, row.attribute) for row in rows]
    cells = sum(share * row.photos for (share, _), row in zip(shares, rows, strict=True))
    sentence = (
        f"Where {percent(target)} of what it names must be right, it can fill in"
        f" {percent(cells / sum(row.photos for row in rows))} of the cells"
    )
    if len(shares) == 1:
        return f"{sentence}; the rest is for a person."
    (low, least), (high, most) = min(shares), max(shares)
    return f"{sentence}: from {percent(low)} ({least}) to {percent(high)} ({most}); the rest is for a person."


def _margin(second: Candidate) -> str:
    difference = second.differences.get("accuracy")
    lead = "Next by validation score is" if second.validation_score is not None else "The next model is"
    if difference is None:
        return f"{lead} {second.name}, for other attributes."
    points = f"{abs(100 * difference.value):.1f} points {'fewer' if difference.value < 0 else 'more'} attributes right"
    noise = "a difference within noise" if difference.within_noise else "more than chance would explain"
    return f"{lead} {second.name}: {points}, {noise}."


def _amount(best: Candidate) -> str:
    overall = best.metrics.overall
    if not overall.true_per_photo or overall.predicted_per_photo is None:
        return ""
    share = overall.predicted_per_photo / overall.true_per_photo
    if 0.95 <= share <= 1.05:
        return "It names about as many values as there are."
    return f"It names {abs(share - 1):.0%} {'more' if share > 1 else 'fewer'} values than there are."


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    runs = comparison.runs
    return [
        ("data", ", ".join(dict.fromkeys(run.data for run in runs if run.data))),
        ("backbone", ", ".join(dict.fromkeys(f"{run.backbone} ({run.weights_source})" for run in runs))),
        ("features", ", ".join(dict.fromkeys(" + ".join(run.blocks) for run in runs))),
        ("photos", " / ".join(f"{comparison.parts.get(p, 0):,} {p}" for p in ("train", "validation", "test"))),
        ("products in test", f"{comparison.groups:,}"),
    ]
