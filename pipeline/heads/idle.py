"""Options that were given and change none of the heads that are fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from pipeline.heads.config import HeadConfig
from pipeline.options import FitOptions
from pipeline.options.forms.words import changed

_FIELDS = {"optimizers": "optimizer", "logreg_c": "C", "max_labels": "trees", "halving": "epochs", "products": "epochs"}
"""Options whose name is not that of the field they set, or of one that the heads have to which they matter."""


def idle_options(options: FitOptions, configs: Sequence[HeadConfig]) -> tuple[str, ...]:
    """A sentence about the options that differ from their default and do nothing; none when there are none.

    Args:
        options: What was asked for.
        configs: The grid made of it.
    """
    known = {field.name for field in fields(HeadConfig)}
    used = frozenset[str]().union(*(config.used for config in configs))
    given = {name: _FIELDS.get(name, name) for name in changed(options)}
    idle = [name for name, field in given.items() if field in known - used - {"head"}]
    sentences = []
    if idle:
        tried = dict.fromkeys(" under ".join(filter(None, (c.head, c.optimizer))) for c in configs)
        named = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        sentences.append(f"{named} {'does' if len(idle) == 1 else 'do'} nothing for {', '.join(tried)}")
    if options.halving_pace != FitOptions().halving_pace and not options.halving:
        sentences.append(f"--halving-pace {options.halving_pace} does nothing without --halving")
    if options.ensemble > 1 and len(configs) == 1:
        sentences.append(f"--ensemble {options.ensemble}: one configuration was fit, so there is nothing to average")
    if options.ensemble_from != FitOptions().ensemble_from and options.ensemble < 2:
        sentences.append(f"--ensemble-from {options.ensemble_from} does nothing without --ensemble")
    return tuple(sentences)
