"""Build seg1b/kernels/data/inverse_normal_q24.npy: the inverse normal distribution as an integer table.

Entry i of 4097 is round(2^24 * ndtri(i / 4096)); the two infinite ends are cut at probability 2^-14. The
file is part of the product: jitter reads it, so that no mathematical library lies on the path to a
published coordinate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

STEPS = 4096
UNIT = 1 << 24
TAIL_PROBABILITY = 2.0**-14
DESTINATION = Path(__file__).resolve().parent.parent / "seg1b" / "kernels" / "data" / "inverse_normal_q24.npy"


def build_table() -> npt.NDArray[np.int64]:
    """The table: int64[4097], strictly ascending and antisymmetric."""
    probability = np.arange(STEPS + 1) / STEPS
    probability[0] = TAIL_PROBABILITY
    probability[STEPS] = 1 - TAIL_PROBABILITY
    table: npt.NDArray[np.int64] = np.rint(UNIT * ndtri(probability)).astype(np.int64)
    table[STEPS] = -table[0]
    return table


if __name__ == "__main__":
    DESTINATION.parent.mkdir(exist_ok=True)
    np.save(DESTINATION, build_table())
    print(f"wrote {DESTINATION.name}: {STEPS + 1} entries")
