"""Trained recoveries that PALDN is compared with. They run in trainings and evaluations, not on a bridge.

Importing this package registers them with `evitif.recovery.load_recovery`. For one more: a subclass of
`evitif.recovery.LearnedRecovery` in a file here, a word in `evitif.vocabulary.RecoveryName`, a place in LEARNED, and in
`sizes.SIZES` where it comes in sizes.
"""

from evitif.recovery import LearnedRecovery, LinearCompletion, Paldn
from evitif.recovery.artifact import register
from evitif_lab.baselines.convolution import Edsr, Srcnn
from evitif_lab.baselines.sizes import sized
from evitif_lab.baselines.surrogate import Surrogate
from evitif_lab.baselines.tuned_tail import TunedTail

LEARNED: dict[str, type[LearnedRecovery]] = {kind.name: kind for kind in (Surrogate, LinearCompletion, Srcnn, Edsr, Paldn, TunedTail)}
register(Surrogate, Srcnn, Edsr, TunedTail)

__all__ = ['LEARNED', 'Edsr', 'Srcnn', 'Surrogate', 'TunedTail', 'sized']
