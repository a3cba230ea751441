"""One way to compile a kernel, so that every kernel has the same numeric contract.

No fast-math and no parallel loops: results must not depend on the CPU's reassociation or on a thread count.
The GIL is released, so a caller may run kernels on different countries in different threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def njit(function: FunctionT) -> FunctionT:
    """Compile `function` to machine code, cached on disk, without the GIL, in strict IEEE arithmetic."""
    return cast(FunctionT, numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")(function))


def inline(function: FunctionT) -> FunctionT:
    """As `njit`, but copied into its callers: for the small functions inside hot loops."""
    decorated = numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy", inline="always")
    return cast(FunctionT, decorated(function))
