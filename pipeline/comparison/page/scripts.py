"""The scripts of the page: Bokeh's own, read from the installed package, and this folder's."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import OptionError

BOKEH = ("bokeh.min.js", "bokeh-api.min.js")
ASSETS = Path(__file__).parent / "assets"
OWN = ("page.js", "tables.js", "charts.js", "closer.js", "gallery.js")


def read_scripts() -> list[str]:
    """Every script of the report page.

    Returns:
        Their code, in the order in which it must run.

    Raises:
        OptionError: Bokeh is not installed, or lacks its scripts.
    """
    # Only its files are wanted; importing the package would take longer than all the rest of the page.
    bokeh = find_spec("bokeh")
    if bokeh is None or not bokeh.submodule_search_locations:
        raise OptionError("--report needs Bokeh for its charts; it is not installed: pip install -r requirements.txt")
    library = Path(bokeh.submodule_search_locations[0]) / "server" / "static" / "js"
    missing = [name for name in BOKEH if not (library / name).is_file()]
    if missing:
        raise OptionError(f"the installed Bokeh has no {library / missing[0]}: pip install -r requirements.txt")
    files = [*(library / name for name in BOKEH), *(ASSETS / name for name in OWN)]
    # Carriage returns would be normalised by a browser before it checks the digest of a script.
    return [path.read_text(encoding="utf-8").replace("\r\n", "\n") for path in files]


def policy(code: Sequence[str]) -> str:
    """A content security policy under which no request leaves the page.

    Args:
        code: The only scripts that may run under it; none may when it is empty.

    Returns:
        The policy, for a meta element.
    """
    digests = (base64.b64encode(hashlib.sha256(each.encode("utf-8")).digest()).decode("ascii") for each in code)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    own = f"script-src {allowed}; " if allowed else ""
    return f"default-src 'none'; {own}style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
