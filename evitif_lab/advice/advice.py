"""Runs all ways over the link, judges them, and recommends one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from evitif_lab.advice.scene import NO_ANSWER, Frame, Scene
from evitif_lab.advice.timeline import Fate, Path, Seed, Trip
from evitif_lab.commands.progress import Progress

AS_GOOD = 0.01          # ways are as good as the best whose share of right answers is so near
SEEDS = (0, 1)


class Way(Protocol):
    """A way of sending; `robot_s` is what a frame takes to compute on the robot."""

    title: str
    robot_s: float

    def prepare(self, scene: Scene) -> None:
        """Load what it needs. Raises ValueError where it cannot be had."""

    def run(self, frames: list[Frame], first: int, path: Path, seed: Seed, deadline_s: float) -> Trip:
        """What becomes of a run of frames."""
        ...


@dataclass(frozen=True)
class Finding:
    """What a way made of the recording. Shares are of all frames."""

    way: str
    right: float                # the uncut model's own class, by the deadline
    interval: float | None      # half of the 95 % interval of that, by runs and seeds
    answered: float             # by the deadline, also from memory
    repeated: float             # of these the last answer again
    p50_s: float | None         # from image to answer; None where so many have none
    p99_s: float | None
    bytes: float                # of IP packets on the uplink, a frame
    mbit_s: float
    robot_s: float              # computing on the robot, a frame


def judge(way: Way, scene: Scene, path: Path, deadline_s: float, seeds: Sequence[int] = SEEDS) -> Finding:
    """Send all runs over the link, once with each seed."""
    own, fates, runs = [], [], []
    trace_s = 0.0
    for seed in seeds:
        first = 0
        for number, frames in enumerate(scene.runs):
            trip = way.run(frames, first, path, Seed(f'{seed} {number}', trace_s), deadline_s)
            trace_s += frames[-1].at_s + 1 / scene.rate_hz
            judged = scene.judged[first:first + len(frames)]
            own.append(scene.answers[first:first + len(frames)][judged])
            fates += [fate for fate, counts in zip(trip.fates, judged, strict=True) if counts]
            runs.append(len(fates))
            first += len(frames)
    return finding_of(way.title, fates, np.concatenate(own), runs[:-1], way.robot_s, scene, deadline_s)


def finding_of(title: str, fates: Sequence[Fate], own: np.ndarray, ends: Sequence[int], robot_s: float, scene: Scene,
               deadline_s: float) -> Finding:
    """What the fates of frames come to.

    :param own: int [frames], the uncut model's classes
    :param ends: where a run ends and the next begins
    """
    given, after = np.array([fate.class_id for fate in fates]), np.array([fate.after_s for fate in fates])
    right = (given == own) & (given != NO_ANSWER)
    shares = [run.mean() for run in np.split(right, ends)]
    spread = 1.96 * float(np.std(shares, ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else None
    size = float(np.mean([fate.bytes for fate in fates]))
    return Finding(title, float(right.mean()), spread, float((after <= deadline_s).mean()),
                   float(np.mean([fate.repeated and fate.after_s <= deadline_s for fate in fates])),
                   _quantile(after, 0.5), _quantile(after, 0.99), size, 8e-6 * size * scene.rate_hz, robot_s)


def _quantile(after_s: np.ndarray, share: float) -> float | None:
    found = float(np.quantile(after_s, share, method='higher'))
    return found if math.isfinite(found) else None


def compare(ways: Sequence[Way], scene: Scene, path: Path, deadline_s: float, known: dict[str, dict],
            keep: Callable[[dict[str, dict]], object], say: Callable[[str], object]) -> list[Finding]:
    """Judge each way that is not `known` yet; after each, `keep` gets all that is known."""
    for way in Progress(ways, desc='ways of sending', unit='way'):
        if way.title in known:
            continue
        try:
            way.prepare(scene)
        except ValueError as error:
            say(f'{way.title} is left out: {error}')
            continue
        known[way.title] = asdict(judge(way, scene, path, deadline_s))
        keep(known)
    return [Finding(**known[way.title]) for way in ways if way.title in known]


def recommend(findings: Sequence[Finding], deadline_s: float) -> str:
    """The recommendation in a sentence with its reason."""
    best = max(findings, key=lambda finding: finding.right)
    good = [finding for finding in findings if finding.right >= best.right - AS_GOOD]
    chosen = min(good, key=lambda finding: (finding.bytes, finding.p99_s or math.inf))
    others = [finding for finding in findings if finding.way != chosen.way]
    reason = f'{100 * chosen.right:.1f} % of the frames have the uncut model\'s answer within {1e3 * deadline_s:.0f} ms'
    bytes_ = f'{chosen.bytes / 1e3:.1f} kB a frame' if chosen.bytes else 'nothing is sent'
    if not others:
        return f'{chosen.way}: {reason}, and {bytes_}.'
    second = max(others, key=lambda finding: (finding.right, -finding.bytes))
    beside = f'{second.way} has {100 * second.right:.1f} % for {second.bytes / 1e3:.1f} kB'
    return f'{chosen.way}: {reason}, and {bytes_}; {beside}.'
