"""How many copies of a datagram to send so that one arrives."""

import math

ANSWER_FAILURE = 2e-4     # share of the answers of which no copy may arrive: of 99.9 % answered in time, the uplink may take the rest
MIN_ANSWER_COPIES, MAX_ANSWER_COPIES = 3, 20
REPORT_SUFFICES = 20       # datagrams that the other side must have expected before its report is taken as it is
UNKNOWN_COPIES = 10       # while nothing is known of the downlink: as many datagrams as an initial window (RFC 6928)


def sufficient_copies(packet_error_rate: float, failure: float, fewest: int, most: int, mean_burst: float = math.nan) -> int:
    """The copies of a datagram of which none arrives in at most a share `failure` (0..1) of the cases.

    With losses in runs of mean length b (Gilbert's model), n datagrams in a row are all lost with probability p (1 - 1/b)**(n - 1).
    Independent losses are the case b = 1 / (1 - p), p**n; a shorter burst counts as this.
    """
    p = packet_error_rate
    if not p > failure:      # NaN too
        return fewest
    if p >= 1.0:
        return most
    stays_bad = max(p, 1.0 - 1.0 / mean_burst) if mean_burst >= 1.0 else p
    return min(max(1 + math.ceil(math.log(failure / p) / math.log(stays_bad)), fewest), most)


def answer_copies(packet_error_rate: float, mean_burst: float = math.nan) -> int:
    """The copies of an answer, 3 to 20, of which one arrives in all but 0.02 % of the cases; 10 where the loss is NaN."""
    if math.isnan(packet_error_rate):
        return UNKNOWN_COPIES
    return sufficient_copies(packet_error_rate, ANSWER_FAILURE, MIN_ANSWER_COPIES, MAX_ANSWER_COPIES, mean_burst)
