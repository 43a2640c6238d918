"""What edge and bridge have to know of the models of each strategy, and where they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from evitif.image_size import EXPECTED, image_size_of, size_text
from evitif.settings.declaration import Setting, Settings, setting
from evitif.vocabulary import Fit, Quantisation, Strategy

AUTO = 'auto'       # as a strategy: split or selection, by what was measured of each; as another choice: the best that there is
UNCODED = 'rows'    # as a quantisation: the best without entropy coding
STRATEGY = Setting(
    'strategy', Strategy.SPLIT.value, 'how edge and bridge share the work, the same on both: split (head and tail of one model), selection '
    '(a light model answers, or sends the patches that matter; without one, those that moved), partition (one sub-model on each of '
    'several devices), auto (split or selection, whichever suits the `auto_` parameters better by what was measured)',
    choices=(*Strategy.values(), AUTO), launch=True)

SettingsClass = TypeVar('SettingsClass')


@dataclass(frozen=True, kw_only=True)
class CommonSettings(Settings):
    """What every strategy needs."""

    labels_file: str | None = setting(None, "text file with one class label a line; empty: the model's own labels")
    quantisation: str = setting(
        AUTO, 'how tokens, and patches of strategy selection, are coded, the same on edge and bridge; auto: coded (by their entropy, in '
        'reference to what the bridge has), if a code of this kind was fitted to model and cut, else as rows; rows: by a transform code, '
        'chosen by the measured loss, if one was fitted, else int8', choices=(AUTO, UNCODED, *Quantisation.values()), launch=True)
    # No path on the Internet fragments 1200 bytes of UDP payload (RFC 9000, section 14).
    max_datagram_bytes: int = setting(1200, 'largest UDP payload, the same on edge and bridge', unit='bytes', minimum=256, maximum=65_507)
    device: str = setting('cpu', 'where the model runs, as PyTorch names it: cpu, cuda, cuda:1, mps', required=True, launch=True)
    allow_device_fallback: bool = setting(False, 'run on the CPU, and say so, if `device` is not available')
    precision: str = setting('fp32', 'number format that the model computes in', choices=('fp32', 'fp16', 'bf16'))
    threads: int = setting(
        0, 'CPU threads of PyTorch; 0: OMP_NUM_THREADS, else the number measured fastest at start-up beside another node on the machine',
        unit='threads', minimum=0, maximum=1024)

    heads: str = setting(
        '', "strategy split: folders of heads that answer beside the model's own classifier, separated by commas; the robot may name fewer "
        'than the bridge; empty: none', launch=True)

    strategy: ClassVar[str]

    def require_no_heads(self) -> None:
        """Raise ValueError where heads are named, which the strategy cannot run."""
        if self.heads:
            raise ValueError(f"heads is {self.heads!r}: strategy {self.strategy} only classifies, with its model's own classes; expected "
                             'none, or strategy split')


@dataclass(frozen=True, kw_only=True)
class ModelSettings(CommonSettings):
    """A Vision Transformer: a model folder, or a timm model with weights from somewhere."""

    model: str = setting(
        'artifacts/fashion_mnist', 'a model folder (model.json, model.safetensors), or the name of a timm Vision Transformer; the same on '
        'edge and bridge', required=True, launch=True)
    checkpoint: str | None = setting(None, 'file with the weights of a timm model; empty: none', launch=True)
    pretrained: bool = setting(False, "take the weights of a timm model from timm's hub", launch=True)
    random_seed: int | None = setting(None, 'give a timm model random weights from this seed, for trials; -1: do not', minimum=0,
                                      maximum=2 ** 32 - 1, launch=True)
    num_classes: int | None = setting(None, "classes of a timm model; -1: the model's own", minimum=1, maximum=1_000_000)
    image_size: str | None = setting(
        None, "height and width of the model's input, such as 352x480, or one number for a square; multiples of the patch; the same on "
        "edge and bridge; empty: that of `heads`, else the model's own", unit='pixels', form=EXPECTED, check=image_size_of, launch=True)
    fit: str = setting(
        AUTO, "how a picture of another shape is fitted to the model's input, the same on edge and bridge; crop: its middle is seen; pad: "
        "all of it, between borders; squash: all of it, out of proportion; auto: that of `heads`, else the model's own, mostly crop",
        choices=(AUTO, *Fit.values()), launch=True)

    def __post_init__(self) -> None:
        if self.image_size is not None and not isinstance(self.image_size, str):      # from Python: 224, or (352, 480)
            object.__setattr__(self, 'image_size', size_text(image_size_of(self.image_size)))
        super().__post_init__()

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(height, width) of `image_size`."""
        return None if self.image_size is None else image_size_of(self.image_size)


@dataclass(frozen=True, kw_only=True)
class SplitSettings(ModelSettings):
    """One model, cut in two: its head on the robot, its tail off-board."""

    cut: int | None = setting(
        None, 'the head ends after this block, 0: after the embedding; -1: where the model folder says, else in the middle; the same on '
        'edge and bridge', unit='blocks', minimum=0, maximum=1000, launch=True)
    code_folder: str | None = setting(
        None, 'strategy split: folder of the codes of tokens, such as those that were fitted to a head, the same on edge and bridge; '
        'empty: the model folder', launch=True)

    strategy = Strategy.SPLIT


@dataclass(frozen=True, kw_only=True)
class SelectionSettings(ModelSettings):
    """A light model on the robot, or none; off-board `model`, the large one."""

    light_model: str = setting(
        '', "strategy selection: folder of the robot's light model with its selection.json, the same on edge and bridge; `model` is the "
        'large one; empty: none, and the robot sends the patches that moved', launch=True)

    strategy = Strategy.SELECTION

    def __post_init__(self) -> None:
        if self.strategy == Strategy.SELECTION:
            self.require_no_heads()
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class PartitionSettings(CommonSettings):
    """Sub-models on several devices, and the network that fuses their features."""

    partition: str = setting('', 'strategy partition: folder with partition.json, the same on edge and bridge; it replaces `model`',
                             launch=True)

    strategy = Strategy.PARTITION

    def __post_init__(self) -> None:
        self.require_no_heads()
        self.require_named('partition', 'a folder, since the strategy is partition')
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class AutoSettings(SplitSettings, SelectionSettings):
    """What is known of the link and the robot when `evitif.pipeline.strategy_table` chooses; a cut or light model that is named is kept."""

    auto_frame_bytes: float = setting(
        0.0, 'strategy auto: most bytes an image that the link can be expected to carry, both ways, the same on edge and bridge; 0: any',
        unit='bytes', minimum=0.0, maximum=1e9, launch=True)
    auto_loss: float = setting(0.0, 'strategy auto: expected share of lost datagrams, the same on edge and bridge',
                               minimum=0.0, maximum=0.99, launch=True)
    auto_multiply_adds: float = setting(
        0.0, 'strategy auto: most that the robot can afford to compute for an image, the same on edge and bridge; 0: any',
        unit='million multiply-adds', minimum=0.0, maximum=1e9, launch=True)

    strategy = AUTO


MODEL_SETTINGS: dict[str, type[CommonSettings]] = {kind.strategy: kind for kind in (
    SplitSettings, SelectionSettings, PartitionSettings, AutoSettings)}


def model_settings(strategy: str = Strategy.SPLIT, **values: Any) -> CommonSettings:
    """The settings of a strategy without a link. Raises ValueError for a value out of its range."""
    return of_strategy(MODEL_SETTINGS, strategy)(**values)


def of_strategy(classes: dict[str, SettingsClass], strategy: str) -> SettingsClass:
    """The settings class of a strategy. Raises ValueError where there is no such strategy."""
    if strategy not in classes:
        raise ValueError(f'strategy is {strategy!r}: expected {", ".join(classes)}')
    return classes[strategy]
