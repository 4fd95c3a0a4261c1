"""What a final fit sees: the labels of all parts, and the vectors of networks that were trained on all of them too."""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import OptionError, counted
from pipeline.experiment.kinds.stored import StoredVectors
from pipeline.experiment.rows import Experiment
from pipeline.features.vectors.joined import JoinedFeatures, join_features
from pipeline.options import CacheKeyOptions, FitOptions


def final_experiment(experiment: Experiment, cache_key: CacheKeyOptions, options: FitOptions) -> Experiment:
    """The experiment with test labels and, where `--final-weights` names them, other vectors of the same kinds.

    Args:
        experiment: What everything was chosen on.
        cache_key: Its kinds of vectors.
        options: Say whose vectors take their place.

    Raises:
        OptionError: Those vectors are not all cached, or are no vectors of the same backbones.
    """
    everything = experiment.with_test_labels()
    if not options.final_weights:
        return everything
    cache, before = experiment.vectors.cache, experiment.features
    wanted = replace(cache_key, weights=options.final_weights)
    features = join_features(cache, wanted, experiment.ids, (options.use, before.views))
    named = ", ".join(options.final_weights)
    if _shape(features) != _shape(before):
        raise OptionError(f"--final-weights {named} gives {features}; expected vectors of the kind of {before}")
    for kind in features.kinds:
        there = JoinedFeatures((kind,)).reader(cache).contains(experiment.ids)
        if not there.all():
            lacking = counted(int((~there).sum()), "photo")
            raise OptionError(
                f"{lacking} of {len(there)} lack the vectors of --final-weights {named}. Run: {kind.extract_command}"
            )
    return replace(everything, vectors=StoredVectors(cache, features))


def _shape(features: JoinedFeatures) -> list[tuple[str, list[tuple[str, int]]]]:
    """Backbone, square and blocks of each kind."""
    named = ((kind.info.key, kind.columns[0]) for kind in features.kinds)
    return [
        (f"{key.architecture} {key.size} {key.fit}", [(c.block.name, c.block.dim) for c in columns])
        for key, columns in named
    ]
