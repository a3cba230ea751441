"""What is known of a verified 1A bundle, and the error that refuses one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from seg1b.catalogue.bundle_law import USER_KIND, user_identity
from seg1b.catalogue.rows import RESTORE, OutletRuns
from seg1b.catalogue.tables import OUTLET_CATALOGUE, SITE_SEQUENCE, Lineage
from seg1b.errors import InputError

_PLAIN: Final = frozenset({OUTLET_CATALOGUE, SITE_SEQUENCE})


@dataclass(frozen=True)
class BundleReceipt:
    """What was proven. `content_sha256_hex` depends on the tables' meaning only, not on Parquet's bytes.

    `flag_sha256_hex` is the flag's own value, `egress_framed_sha256_hex` covers every data file's bytes. `data_files`
    has (bytes, SHA-256) of each data file and `documents` the bytes of each validation file, by path below `root`:
    together all that belongs to the bundle. `sequence_follows`: s3_site_sequence numbers exactly the catalogue's
    outlets. `runs` are the outlets' rows once the tables were proven; without them rows, logical digests and
    `sequence_follows` are what the bundle states of itself.
    """

    root: Path
    lineage: Lineage
    kind: str
    flag_sha256_hex: str
    egress_framed_sha256_hex: str
    content_sha256_hex: str
    dataset_rows: Mapping[str, int]
    dataset_logical_sha256_hex: Mapping[str, str]
    data_files: Mapping[str, tuple[int, str]] = field(repr=False)
    documents: Mapping[str, bytes] = field(repr=False)
    sequence_follows: bool
    runs: OutletRuns | None = field(default=None, repr=False, compare=False)

    @property
    def is_plain(self) -> bool:
        """Whether this is a user's catalogue wrapped by this package, of which no 1A evidence can be asked.

        It says so, it holds the two tables that outlets alone give and no other, and it has the identity that follows
        from these outlets: a 1A bundle that was stripped and renamed still has the fingerprint of its run.
        """
        identity = self.lineage.parameter_hash, self.lineage.manifest_fingerprint
        return (
            self.kind == USER_KIND
            and set(self.dataset_rows) == _PLAIN
            and identity == user_identity(self.dataset_logical_sha256_hex[OUTLET_CATALOGUE])
        )

    def part_files(self, dataset: str) -> list[Path]:
        """Parquet files of a dataset, in name order."""
        return sorted((self.root / self.lineage.partition(dataset)).glob("*.parquet"))

    def place(self, dataset: str) -> Path:
        """Where a dataset is, for people: its file, or its folder if it has several or none."""
        files = self.part_files(dataset)
        return files[0] if len(files) == 1 else self.root / self.lineage.partition(dataset)


def fault(code: str, message: str, where: Path, next_step: str = RESTORE) -> InputError:
    """The error for a bundle that is not what it should be."""
    return InputError(code, message, where=str(where), next_step=next_step)
