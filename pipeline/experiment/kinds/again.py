"""What a fit that comes after all choices sees: more labels, and vectors of networks that have learnt from them too."""

from __future__ import annotations

from dataclasses import replace

from cache import BaseKey, Block
from pipeline.errors import OptionError, counted
from pipeline.experiment.kinds.stored import StoredVectors
from pipeline.experiment.rows import Experiment
from pipeline.features.backbone.provenance import require_unseen, seen_of_key
from pipeline.features.selection import differences
from pipeline.features.vectors.joined import JoinedFeatures, join_features
from pipeline.options import CacheKeyOptions, FitOptions


def refit_experiment(experiment: Experiment, cache_key: CacheKeyOptions, options: FitOptions) -> Experiment:
    """The experiment, with other vectors of the same kinds where `--refit-weights` names them.

    Args:
        experiment: What everything was chosen on.
        cache_key: Its kinds of vectors.
        options: Say whose vectors take their place.

    Raises:
        OptionError: Those vectors are not all cached, differ in more than the weights, or test photos are among what
            their networks have learnt from.
    """
    if not options.refit_weights:
        return experiment
    refitted = _with_vectors_of("refit", options.refit_weights, experiment, cache_key, options)
    for info in refitted.features.infos:
        source, seen = str(info.notes.get("weights_source", "")), seen_of_key(refitted.vectors.cache, info)
        products = experiment.catalogue.groups
        require_unseen(seen, experiment.ids, experiment.split, source, products, ("test",))
    return refitted


def final_experiment(experiment: Experiment, cache_key: CacheKeyOptions, options: FitOptions) -> Experiment:
    """The experiment with test labels and, where `--final-weights` names them, other vectors of the same kinds.

    Args:
        experiment: What everything was chosen on.
        cache_key: Its kinds of vectors.
        options: Say whose vectors take their place.

    Raises:
        OptionError: Those vectors are not all cached, or differ in more than the weights.
    """
    everything = experiment.with_test_labels()
    if not options.final_weights:
        return everything
    return _with_vectors_of("final", options.final_weights, everything, cache_key, options)


def _with_vectors_of(
    fit: str, weights: tuple[str, ...], experiment: Experiment, cache_key: CacheKeyOptions, options: FitOptions
) -> Experiment:
    """The same rows with the vectors of other weights."""
    cache, before = experiment.vectors.cache, experiment.features
    features = join_features(cache, replace(cache_key, weights=weights), experiment.ids, (options.use, before.views))
    named = f"--{fit}-weights {', '.join(weights)}"
    if _all_but_weights(features) != _all_but_weights(before):
        pairs = zip(before.infos, features.infos, strict=False)
        apart = "; ".join(filter(None, (differences(pair) for pair in pairs))) or "how many there are"
        raise OptionError(
            f"{named} gives {features}; expected vectors like {before}, but for the weights. They differ in {apart}"
        )
    for kind in features.kinds:
        there = JoinedFeatures((kind,)).reader(cache).contains(experiment.ids)
        if not there.all():
            lacking = counted(int((~there).sum()), "photo")
            raise OptionError(f"{lacking} of {len(there)} lack the vectors of {named}. Run: {kind.extract_command}")
    return replace(experiment, vectors=StoredVectors(cache, features))


def _all_but_weights(features: JoinedFeatures) -> list[tuple[BaseKey, list[Block]]]:
    """What decides the vectors of each kind apart from the weights, and its blocks."""
    return [
        (replace(kind.info.key, weights_sha256="0" * 64), [column.block for column in kind.columns[0]])
        for kind in features.kinds
    ]
