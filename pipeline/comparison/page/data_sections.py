"""The sections about the data and the commands: what was left out and why, and how to make the runs again."""

from __future__ import annotations

import shlex

from pipeline.catalogue.findings import KINDS
from pipeline.comparison.page.data import Dropped, NearPairs, PageData
from pipeline.comparison.page.markup import Child, Look, Markup, el, table
from pipeline.comparison.page.recipes import Recipe
from pipeline.comparison.records import Comparison
from pipeline.options.words import PROGRAM, words_of

LISTED = 100


def dropped(comparison: Comparison, data: PageData) -> Markup:
    """The runs, and what was dropped, odd, or too rare to be measured in their data."""
    rows: list[list[Child]] = []
    for run in comparison.runs:
        origin = f"{run.backbone} ({run.weights_source})"
        rows.append([run.name, run.data, origin, str(run.configurations), str(len(run.attributes)), run.created])
    heads = ["run", "data", "backbone", "configurations", "attributes", "made"]
    lacking = list(dict.fromkeys(value for run in comparison.runs for value in run.not_measurable))
    return el(
        "section",
        el("h2", "Data left out"),
        _kinds(data.dropped, len(comparison.runs) > 1),
        _too_rare(lacking) if lacking else None,
        [_near(found, len(comparison.runs) > 1) for found in data.near],
        el("h3", "Runs compared"),
        table(heads, rows, "Run folders and what they were made from", Look(words=(1, 2, 5))),
        id="dropped",
    )


def reproduce(comparison: Comparison, data: PageData) -> Markup:
    """Commands, versions and digests of every run, and the comparison's own command."""
    options = {"by": comparison.by, "bootstrap": comparison.resamples, "report": "report.html"}
    own = f"{PROGRAM} compare {shlex.join([*(run.path for run in comparison.runs), *words_of(options)])}"
    return el(
        "section",
        el("h2", "How to reproduce"),
        el("p", "Paths are as they were given; start in the folder the runs were made in.", class_="soft"),
        [_recipe(recipe, open_=i == 0) for i, recipe in enumerate(data.recipes)],
        el("h3", "This page"),
        el("pre", el("code", own), tabindex="0"),
        id="reproduce",
    )


def _kinds(found: tuple[Dropped, ...], several: bool) -> Markup:
    if not found:
        return el("p", "Nothing was dropped and nothing was odd.")
    shown = []
    for kind in found:
        name = f"{kind.run}: {kind.kind}" if several else kind.kind
        told = el("span", f" {KINDS[kind.kind]}" if kind.kind in KINDS else "", class_="soft")
        rows = [el("li", [el("code", photo), " "] if photo else None, why) for photo, why in kind.examples]
        rest = kind.count - len(kind.examples)
        more = el("li", f"and {rest:,} more, in dropped.csv") if rest > 0 and kind.examples else None
        shown.append(el("details", el("summary", el("b", f"{kind.count:,} "), name, told), el("ul", rows, more)))
    return el("div", shown)


def _too_rare(lacking: list[str]) -> Markup:
    of_attribute: dict[str, list[str]] = {}
    for label in lacking:
        attribute, _, value = label.partition("=")
        of_attribute.setdefault(attribute, []).append(value)
    shown = []
    for attribute, values in of_attribute.items():
        more = f" and {len(values) - LISTED} more" if len(values) > LISTED else ""
        shown.append(el("li", el("b", f"{attribute} "), ", ".join(values[:LISTED]), more))
    return el(
        "details", el("summary", el("b", f"{len(lacking):,} "), "values too rare to be measured"), el("ul", shown)
    )


def _near(found: NearPairs, several: bool) -> Markup:
    run = f"{found.run}: " if several else ""
    told = (
        f" cosine of at least {found.cosine:g}; {found.test_photos:,} test photo{'s' * (found.test_photos != 1)} have"
        " such a neighbour in another part, which can flatter the test figures"
    )
    rows = [
        el(
            "li",
            el("code", pair.photo_a),
            f" in {pair.part_a}, ",
            el("code", pair.photo_b),
            f" in {pair.part_b}:",
            f" {pair.cosine:.4f}",
        )
        for pair in found.examples
    ]
    rest = found.count - len(rows)
    more = el("li", f"and {rest:,} more; neighbours.csv lists the closest") if rest > 0 and rows else None
    name = f"{run}near-duplicate pair{'s' * (found.count != 1)} across parts"
    summary = el("summary", el("b", f"{found.count:,} "), name, el("span", told, class_="soft"))
    return el("details", summary, el("ul", rows, more))


def _recipe(recipe: Recipe, open_: bool) -> Markup:
    commands = "\n".join(recipe.commands)
    lacking = el("p", "run.json does not record its options.")
    facts: list[list[Child]] = [[name, el("code", digest)] for name, digest in recipe.digests.items()]
    versions = ", ".join(f"{name} {version}" for name, version in recipe.versions.items())
    return el(
        "details",
        el("summary", f"Run folder {recipe.run}"),
        el("pre", el("code", commands), tabindex="0") if commands else lacking,
        el("p", "; ".join(["Made with " + versions, *filter(None, [recipe.host])]), class_="soft")
        if versions
        else None,
        table(["what", "SHA-256"], facts, f"Digests of {recipe.run}", Look(words=(1,))) if facts else None,
        open=open_,
    )
