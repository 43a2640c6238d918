"""A light and a large model folder of random weights, the code of the large one's patches, and settings for the two."""

import pytest
import torch
from small_pair import LARGE, LIGHT, images, write_model

from evitif.model.build import ModelSpec, build_model
from evitif.model.code_artifact import half_precision, save_code
from evitif.model.fingerprint import fingerprint
from evitif.model.folder import artifact_path
from evitif.model.split import SplitModel
from evitif.selection import PatchModel, Pixels, Selection, SelectionArtifact, save_selection
from evitif.selection.artifact import FILE
from evitif.selection.patch_code import KIND
from evitif_lab.training.transform_code import fit_code


@pytest.fixture(scope='session')
def pair(tmp_path_factory):
    """(light, large): two model folders that belong together."""
    root = tmp_path_factory.mktemp('models')
    light, large = write_model(root / 'light', LIGHT, 1), write_model(root / 'large', LARGE, 2)
    built = build_model(ModelSpec(str(large)))
    model = PatchModel(SplitModel(built.module, 0))
    patches = model.head(images(200, seed=5))
    code = half_precision(fit_code(patches, 0, torch.eye(model.channels, dtype=torch.float64)[None]))
    save_code(artifact_path(large, 0, KIND), code, {
        'model': 'large', 'fingerprint': fingerprint(built.module, 0), 'cut': 0, 'default': 'klt1', 'figures': {},
        **Pixels.describe(model, built.class_names, built.labels, built.data_config)}, KIND)
    save_selection(light / FILE, SelectionArtifact(
        Selection(classes=4, delta=0.5, eta=0.0), str(light), fingerprint(build_model(ModelSpec(str(light))).module), str(large),
        fingerprint(built.module, 0), {'expected': {}}))
    return light, large
