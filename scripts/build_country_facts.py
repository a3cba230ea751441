"""Make `seg1b/lanes/data/country_facts.json`: southern share and area of the packaged world's countries.

Run it when the world, or the policy or code revision of S1 or S2w, changes: the file is bound to S2w's key.
"""

from __future__ import annotations

import json

from seg1b.lanes import country_facts as facts
from seg1b.policy.load import default_policies
from seg1b.world.bundle import load_world


def main() -> None:
    """Compute and write."""
    world, policies = load_world(), default_policies()
    found = {
        "s2w_key": facts.weights_key(world, policies),
        "southern_share": facts.computed_southern_share(world, policies).tolist(),
        "area_km2": facts.computed_area_km2(world, policies).tolist(),
    }
    facts.PACKAGED.parent.mkdir(exist_ok=True)
    facts.PACKAGED.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
