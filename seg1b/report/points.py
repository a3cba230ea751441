"""Sites as a map needs them: which country, where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SitePoints:
    """n sites of one seed.

    `country` int16[n] (index into the world's table), `lon_deg`, `lat_deg` float64[n].
    """

    country: npt.NDArray[np.int16]
    lon_deg: Floats
    lat_deg: Floats

    def __len__(self) -> int:
        return len(self.country)

    def of_country(self, index: int) -> SitePoints:
        """Only the sites of one country."""
        own = self.country == index
        return SitePoints(self.country[own], self.lon_deg[own], self.lat_deg[own])
