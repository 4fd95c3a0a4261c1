"""Frozen timm backbones, the key that names their vectors, and what a folder remembers of them.

    options ──▶ load.py ──▶ backbone.py: what names the vectors ──▶ module.py: the forward pass, once it is needed
                  known.py: what is known of a network that was loaded here before

Only `module.py` and what loads weights need PyTorch and timm, whose imports take longer than one photo.
"""

from pipeline.features.backbone.network.backbone import PRECISIONS, Backbone, base_key
from pipeline.features.backbone.network.load import load_backbone

__all__ = ["PRECISIONS", "Backbone", "base_key", "load_backbone"]
