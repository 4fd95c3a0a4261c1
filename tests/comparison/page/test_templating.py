"""What every page is made with: text is escaped, gaps are errors, tables are alike, no foreign script runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from pipeline.comparison.page.scripts import policy
from pipeline.comparison.page.templating import render_page

START = '{% extends "base.html" %}{% from "macros.html" import frame, table %}{% block title %}T{% endblock %}'


def body_of(folder: Path, template: str, **content: object) -> str:
    (folder / "page.html").write_text(f"{START}{{% block body %}}{template}{{% endblock %}}", encoding="utf-8")
    page = render_page("page.html", content, folder, scripts=["run(1 < 2)\u200b"])
    body = page.split("<body>\n")[1]
    assert body.endswith("<script>run(1 < 2)\u200b</script>\n</body>\n</html>\n"), "code stays as it is"
    return body.removesuffix("<script>run(1 < 2)\u200b</script>\n</body>\n</html>\n").strip()


def test_text_is_escaped_and_what_cannot_be_seen_is_marked(tmp_path: Path) -> None:
    found = body_of(tmp_path, '<p title="{{ a }}">{{ a ~ "\u200b" }}</p>{{ b }}', a="\"'<\u202e", b=Markup("<br>"))
    assert found == '<p title="&#34;&#39;&lt;\ufffd">&#34;&#39;&lt;\ufffd\ufffd</p><br>'


def test_a_name_that_is_not_there_is_an_error_and_no_gap(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="'absent' is undefined"):
        body_of(tmp_path, "{{ absent }}")


def test_tables_say_what_their_cells_are(tmp_path: Path) -> None:
    shown = body_of(tmp_path, '{{ table(["", "n"], [["<r>", 1]], "c&", words=(1,), sortable=true) }}').replace("\n", "")
    assert '<div class="scroll" tabindex="0" role="region" aria-label="c&amp;"><table class="sortable">' in shown
    assert '<th scope="col" class="words" aria-sort="none"><button type="button">n</button></th>' in shown
    assert "<caption><span>c&amp;</span></caption>" in shown
    assert '<thead><tr><th scope="col"></th>' in shown, "a column without a name cannot be sorted"
    assert '<tbody><tr><th scope="row">&lt;r&gt;</th><td class="words">1</td></tr></tbody>' in shown


def test_without_scripts_none_may_run() -> None:
    assert policy([]) == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
