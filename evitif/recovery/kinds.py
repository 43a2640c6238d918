"""The recoveries by name: METHODS need no training, LEARNED do."""

from evitif.recovery.convolution import Edsr, Srcnn
from evitif.recovery.linear import LinearCompletion
from evitif.recovery.methods import METHODS
from evitif.recovery.paldn import Paldn
from evitif.recovery.surrogate import Surrogate
from evitif.recovery.tuned_tail import TunedTail

LEARNED = {kind.name: kind for kind in (Surrogate, LinearCompletion, Srcnn, Edsr, Paldn, TunedTail)}
ALL = (*METHODS, *LEARNED)
