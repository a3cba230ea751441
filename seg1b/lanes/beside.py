"""What goes on beside a run, in threads of its driver."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from seg1b.lanes.world_stage import WorldStage, check_image, keep_image
from seg1b.policy.load import Policies
from seg1b.store.store import Store


class Beside:
    """Pruning, and the world's image is compared with its digest, or written. Leaving the block waits for both."""

    def __init__(self, prune: Callable[[], object]) -> None:
        self._pool = ThreadPoolExecutor(2)
        self._pruning = self._pool.submit(prune)
        self._checking: Future[None] | None = None
        self._keeping: Future[None] | None = None

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if kind is None and self._keeping is not None:
            self._keeping.result()  # what goes wrong there and is no matter of the disk is a defect

    def has_world(self, store: Store, policies: Policies, stage: WorldStage) -> None:
        """Begin with what is to be done about the image."""

        def keep() -> None:
            self.require_room()
            keep_image(store, policies, stage)

        if stage.mapped:
            self._checking = self._pool.submit(check_image, store, stage)
        else:
            self._keeping = self._pool.submit(keep)

    def require_room(self) -> None:
        """Wait for pruning. Raises InputError E_STORE_CAP: a store that is too full takes no more shards."""
        self._pruning.result()

    def require_image(self) -> None:
        """Wait for the comparison. Raises StoreError E_STORE_DAMAGED: nothing is placed by another world."""
        if self._checking is not None:
            self._checking.result()
