"""What is done about lost tokens between head and tail: PALDN, linear completion, omission, and what is filled in without training."""

from evitif.recovery.artifact import LEARNED, ArtifactError, load_recovery, save_recovery
from evitif.recovery.methods import METHODS, Interpolation, Mean, Omission, Recovered, Recovery, Sequence, Zero
from evitif.recovery.paldn import LearnedRecovery, LinearCompletion, Paldn

__all__ = ['LEARNED', 'METHODS', 'ArtifactError', 'Interpolation', 'LearnedRecovery', 'LinearCompletion', 'Mean', 'Omission', 'Paldn',
           'Recovered', 'Recovery', 'Sequence', 'Zero', 'load_recovery', 'save_recovery']
