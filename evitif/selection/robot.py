"""The robot's half of strategy selection: from an image to an answer of its own, or to the patches to send."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evitif.model.build import ModelSpec, build_model
from evitif.model.device import place
from evitif.model.errors import ArtifactError
from evitif.model.field_of_view import FieldOfView
from evitif.model.fingerprint import fingerprint
from evitif.model.folder import find_model_folder
from evitif.model.preprocess import AUTO, Preprocessor, seen_as
from evitif.selection.artifact import FILE, Selection, load_selection, require_same_classes
from evitif.selection.choice import select, select_within
from evitif.selection.gate import sure
from evitif.selection.glance import Glance, LightModel
from evitif.selection.patch_code import PatchCode
from evitif.selection.prior import with_prior
from evitif.selection.scores import transported


@dataclass(frozen=True, eq=False)
class Decision:
    """What the robot decided about one image."""

    glance: Glance
    sure: bool                    # the light model's answer is the answer
    chosen: np.ndarray            # int64, the patches to send, most important first; none where it is sure
    patches: np.ndarray | None    # float32 [patches, C * h * w], the pixels of all as the large model takes them; the chosen ones travel


class Selector:
    """The light model with its gate, its selection and the code of the large model's patches."""

    def __init__(self, light: LightModel, preprocessor: Preprocessor, settings: Selection, patch_code: PatchCode,
                 light_fingerprint: str, looks_alike: bool = True):
        self.light, self.preprocessor, self.settings, self.patch_code = light, preprocessor, settings, patch_code
        self.light_fingerprint = light_fingerprint      # of the light model's weights, without a cut
        self._looks_alike = looks_alike         # scores are of the large model's grid, over what that sees
        self._large_preprocessor = None if patch_code.pixels.data_config == preprocessor.data_config else patch_code.pixels.preprocessor()

    @classmethod
    def load(cls, light: str, *, large: str | None = None, delta: float | None = None, eta: float | None = None,
             device: str = 'cpu', precision: str = 'fp32', size: tuple[int, int] | None = None, fit: str = AUTO) -> Selector:
        """The light model folder `light` with the `selection.json` in it and the patch code beside the large model.

        :param large: the large model's folder on this machine; None: the one given to `evitif calibrate`
        :param delta, eta: a user's own; None: the calibrated ones
        :param size, fit: how the large model sees pictures, where not as the code was fitted; the light one takes the fit too
        :raises ModelError: the light model cannot be used, or the device is not there
        :raises ArtifactError: there is no selection.json or patch code, or one is of another model
        :raises ValueError: δ or η out of range
        """
        placement = place(device, precision)
        built = build_model(ModelSpec(light))
        identity = fingerprint(built.module)
        artifact = load_selection(artifact_in(light), identity)
        fitted = PatchCode.beside(large or artifact.large, artifact.large_fingerprint)
        patch_code = fitted.seeing(size, fit)
        alike = patch_code.pixels is fitted.pixels
        require_same_classes(light, built.class_names, patch_code.pixels.model, patch_code.pixels.class_names)
        settings = artifact.settings.changed(delta, eta)
        built.module.to(placement.device, placement.dtype)
        return cls(LightModel(built.module, settings.score_rule, patch_code.pixels.grid if alike else None, settings.temperature),
                   Preprocessor(seen_as(built.data_config, None, fit)), settings, patch_code, identity, alike)

    def decide(self, image: np.ndarray, budget_patches: int | None = None) -> Decision:
        """Decide what to do with an RGB image uint8 [H, W, 3]. The link has room for `budget_patches`; None: for any number."""
        settings, seen = self.settings, self.preprocessor(image)
        glance = self.light.glance(seen)
        if sure(glance.probabilities, settings.eta, settings.gate_rule):
            return Decision(glance, True, np.empty(0, np.int64), None)
        scores = glance.scores
        if not self._looks_alike:
            pixels = self.patch_code.pixels
            scores = transported(scores, self.light.grid, self.preprocessor.view(*image.shape[:2]), pixels.grid,
                                 FieldOfView.of(pixels.data_config, *image.shape[:2]))
        chosen = select(scores, settings.delta)
        if budget_patches is not None and budget_patches < len(chosen):
            chosen = select_within(scores, budget_patches)
        large_seen = seen if self._large_preprocessor is None else self._large_preprocessor(image)
        return Decision(glance, False, chosen, self.patch_code.pixels.patches_in(large_seen))

    def fuse(self, glance: Glance, class_ids: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weigh the large model's most likely classes [k] and scores [k] by the light model's answer; best first."""
        fused = with_prior(np.asarray(scores), glance.probabilities[np.asarray(class_ids)], self.settings.prior_weight)
        order = np.argsort(-fused, kind='stable')
        return np.asarray(class_ids)[order], fused[order]


def artifact_in(light: str) -> Path:
    """The `selection.json` of the light model folder `light`. Raises ArtifactError where there is none."""
    folder = find_model_folder(light)
    if folder is None or not (folder / FILE).is_file():
        raise ArtifactError(f'{light!r} has no {FILE}: expected the folder of a light model; `evitif calibrate --light {light} '
                            '--large MODEL --data FOLDER` writes it')
    return folder / FILE
