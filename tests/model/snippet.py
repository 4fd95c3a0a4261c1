"""The program of docs/MODEL_FILE.md that uses a model without this project, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "MODEL_FILE.md"
(SNIPPET,) = re.findall(r"```python\n(import joblib\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
