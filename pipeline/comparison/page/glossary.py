"""What the words over the page's columns mean, for those who did not make them."""

from __future__ import annotations

from collections.abc import Mapping

GLOSSARY: Mapping[str, str] = {
    "validation": "The score, on the validation photos, that the choice was made by. The chosen one's is optimistic: it"
    " is the highest of many. The other figures are of test photos, which had no say.",
    "attribute accuracy": "Share of photos on which exactly the true values of an attribute are named, averaged"
    " over the attributes.",
    "accuracy": "Share of photos on which exactly the true values are named.",
    "balanced": "Accuracy if every value were equally frequent: a rare value weighs as much as a common one.",
    "majority": "What always naming the most common value would reach, without looking at a photo.",
    "minus the best": "Attribute accuracy minus that of the best. Within noise: with other test photos it might be the"
    " other way round.",
    "F1": "Between 0 and 1: high only if what is named is mostly right (precision) and what is true is mostly named"
    " (recall).",
    "macro F1": "Mean F1 over all values: rare values count as much as common ones.",
    "attribute F1": "Macro F1 of each attribute, averaged over the attributes.",
    "micro F1": "F1 of all values taken together: common values count most.",
    "mAP": "Mean average precision: how well photos that have a value are ranked above those that have not, whatever"
    " the threshold. 1 is perfect.",
    "AP": "Average precision: how well photos that have the value are ranked above those that have not. 1 is perfect.",
    "IoU": "Values both true and named, over values true or named. With one value per photo it is the accuracy.",
    "all right": "Share of photos on which every attribute is right at once.",
    "loss": "How far the probabilities are from the truth (cross-entropy); lower is better.",
    "calib. err.": "Calibration error: how far off the probabilities are as promises. At 0, of all the 80 % ones 80 %"
    " are right.",
    "pred/true": "Values named over values that there are: 1 is right, below 1 it is too silent.",
    "precision": "Share of what is named that is right.",
    "recall": "Share of what is true that is named.",
    "fit s": "Seconds that fitting took.",
    "its files": "What its files are called in the run folder.",
    "named there": "Share of the photos whose category has the attribute, and that have a value of it, on which"
    " something is named, right or wrong.",
    "silent there": "Share of the photos whose category does not have the attribute on which nothing is named.",
    "applies or not": "Mean of the two shares. 0.5 for a model that always names something, or never.",
    "can be filled": "Share of the photos on which something is then named; the others stay empty for a person.",
    "filled, held out": "The same with thresholds that other photos gave, as on photos yet to come.",
    "right, held out": "Share of these values that are right.",
}
"""By the head of the column."""
