"""Attention-aware collaborative inference (Im et al., arXiv 2404.07217): a light ViT on the robot answers when it is sure,
and else sends the patches that matter to a large one. `Selector` is the robot's half, `PatchModel` the other."""

from evitif.selection.artifact import Selection, SelectionArtifact, load_selection, require_same_classes, save_selection
from evitif.selection.choice import select, select_within
from evitif.selection.gate import sure, uncertainty
from evitif.selection.glance import Glance, LightModel
from evitif.selection.large import PatchModel
from evitif.selection.patch_code import EntropyPatchCode, PatchCode, Pixels
from evitif.selection.robot import Decision, Selector

__all__ = ['Decision', 'EntropyPatchCode', 'Glance', 'LightModel', 'PatchCode', 'PatchModel', 'Pixels', 'Selection', 'SelectionArtifact',
           'Selector', 'load_selection', 'require_same_classes', 'save_selection', 'select', 'select_within', 'sure', 'uncertainty']
