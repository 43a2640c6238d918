"""What is done about lost tokens between head and tail: PALDN, its baselines and what it is compared with."""

from evitif.recovery.artifact import ArtifactError, load_recovery, save_recovery
from evitif.recovery.convolution import Edsr, Srcnn
from evitif.recovery.kinds import ALL, LEARNED
from evitif.recovery.learned import LearnedRecovery, Sequence
from evitif.recovery.linear import LinearCompletion
from evitif.recovery.methods import METHODS, Interpolation, Mean, Omission, Recovered, Recovery, Zero
from evitif.recovery.paldn import Paldn
from evitif.recovery.surrogate import Surrogate
from evitif.recovery.tuned_tail import TunedTail

__all__ = ['ALL', 'LEARNED', 'METHODS', 'ArtifactError', 'Edsr', 'Interpolation', 'LearnedRecovery', 'LinearCompletion',
           'Mean', 'Omission', 'Paldn', 'Recovered', 'Recovery', 'Sequence', 'Srcnn', 'Surrogate', 'TunedTail', 'Zero',
           'load_recovery', 'save_recovery']
