"""The page of an audit: small pictures of what it found, worst first, in one file that asks nothing of the network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.audit.report import AuditReport, Conflict, LabelIssue, Outlier
from pipeline.comparison import page as comparison_page
from pipeline.comparison.page.markup import Child, Markup, el, table
from pipeline.system import write_text

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
Pictures = Mapping[str, bytes]


def shown_photos(report: AuditReport, most: int) -> tuple[str, ...]:
    """The photos whose pictures the page needs, each once."""
    names = [issue.photo for issue in report.issues[:most]]
    names += [name for pair in _pairs(report.conflicts)[:most] for name in pair]
    names += [outlier.photo for outlier in report.outliers[:most]]
    return tuple(dict.fromkeys(names))


def render_gallery(report: AuditReport, pictures: Pictures, most: int) -> str:
    """The whole page as text; pictures : photo -> WebP bytes, where there are any."""
    home = Path(__file__).parent
    styles = (Path(comparison_page.__file__).with_name("style.css"), home / "gallery.css")
    style = "".join(path.read_text(encoding="utf-8") for path in styles)
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", "Audit of labels"),
        el("style", Markup(style)),
    )
    summary = (
        f"{report.photos:,} photos: {len(report.issues):,} labels in doubt, {len(report.conflicts):,} "
        f"look-alikes with different labels, {len(report.outliers):,} outliers. Nothing was changed."
    )
    parts = (_issues, _twins, _far)
    sections = [_attributes(report), *(part(report, pictures, most) for part in parts)]
    main = el("main", sections, el("footer", "Made by Selvedge, run.py audit."))
    body = el("body", el("header", el("h1", "Audit of labels"), el("p", summary, class_="soft")), main)
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def write_gallery(report: AuditReport, pictures: Pictures, most: int, path: Path) -> Path:
    """Write the page, whole or not at all; returns its path."""
    write_text(path, render_gallery(report, pictures, most))
    return path


def _attributes(report: AuditReport) -> Markup:
    rows: list[Sequence[Child]] = [
        [attribute, f"{judged:,}", f"{found:,}", f"{found / judged:.1%}" if judged else "-"]
        for attribute, (judged, found) in report.counts.items()
    ]
    rare = f"{len(report.rare)} values are shown by too few products to be judged." if report.rare else None
    heads = ["attribute", "labels judged", "in doubt", "share"]
    told = el("p", rare, class_="soft") if rare else None
    return el("section", el("h2", "Attributes"), told, table(heads, rows, "Per attribute"))


def _issues(report: AuditReport, pictures: Pictures, most: int) -> Markup:
    figures = [_issue(issue, pictures) for issue in report.issues[:most]]
    told = (
        "A head that saw neither the photo nor its product is sure of something else. The worst come first; all are in "
        "label_issues.csv. Look before you change: a head can be wrong, most of all where a photo cannot show a value."
    )
    return _section("Labels in doubt", told, figures, len(report.issues))


def _issue(issue: LabelIssue, pictures: Pictures) -> Markup:
    given = issue.given or f"not {issue.suggested}"
    suggested = issue.suggested or f"not {issue.given}"
    return _figure(
        [issue.photo],
        pictures,
        el("span", f"{issue.attribute}: {given}", class_="given"),
        el("span", f"{suggested} ({issue.suggested_p:.0%})", class_="suggested"),
        el("span", issue.photo, class_="soft"),
    )


def _twins(report: AuditReport, pictures: Pictures, most: int) -> Markup:
    by_pair: dict[tuple[str, str], list[Conflict]] = {}
    for conflict in report.conflicts:
        by_pair.setdefault((conflict.photo, conflict.other), []).append(conflict)
    pairs = _pairs(report.conflicts)
    figures = [
        _figure(
            pair,
            pictures,
            [el("span", f"{c.attribute}: {c.given} | {c.other_given}", class_="given") for c in by_pair[pair]],
            el("span", f"{pair[0]} | {pair[1]}", class_="soft"),
        )
        for pair in pairs[:most]
    ]
    told = "Photos that look the same to the backbone, with different labels. All are in duplicates.csv."
    return _section("Look-alikes with different labels", told, figures, len(pairs), "gallery pairs")


def _far(report: AuditReport, pictures: Pictures, most: int) -> Markup:
    figures = [_outlier(outlier, pictures) for outlier in report.outliers[:most]]
    told = "Photos far from all others, or from all others with their value. All are in outliers.csv."
    return _section("Outliers", told, figures, len(report.outliers))


def _outlier(outlier: Outlier, pictures: Pictures) -> Markup:
    among = f"{outlier.attribute}: {outlier.value}" if outlier.attribute else "among all photos"
    name = el("span", outlier.photo, class_="soft")
    return _figure([outlier.photo], pictures, el("span", among, class_="given"), name)


def _pairs(conflicts: Iterable[Conflict]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((c.photo, c.other) for c in conflicts))


def _section(title: str, told: str, figures: Sequence[Markup], total: int, class_: str = "gallery") -> Markup:
    count = f"{len(figures)} of {total:,} shown." if total else "None found."
    return el("section", el("h2", title), el("p", f"{told} {count}", class_="soft"), el("div", figures, class_=class_))


def _figure(photos: Sequence[str], pictures: Pictures, *caption: Child) -> Markup:
    shown = [
        el("img", src=f"data:image/webp;base64,{base64.b64encode(pictures[name]).decode()}", alt=name, loading="lazy")
        for name in photos
        if name in pictures
    ]
    return el("figure", el("div", shown, class_="pictures"), el("figcaption", caption))
