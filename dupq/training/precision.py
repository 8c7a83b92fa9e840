"""Choice between float32 and bfloat16, by a measurement on this machine."""

from __future__ import annotations

import time


def bfloat16_is_faster(repeats: int = 5) -> bool:
    """Return True where bfloat16 speeds up training.

    One matrix product is timed, in about 50 ms. Processors with bfloat16 matrix units (Intel AMX, Arm BF16) are several
    times faster with it; others emulate it and are slower. A GPU with bfloat16 units is always faster with it.
    """
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))

    def seconds(dtype: torch.dtype) -> float:
        rows, weights = torch.ones(1024, 384, dtype=dtype), torch.ones(1536, 384, dtype=dtype)
        torch.nn.functional.linear(rows, weights)
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            torch.nn.functional.linear(rows, weights)
            best = min(best, time.perf_counter() - start)
        return best

    # Autocast also pays for the casts, so the product must be faster by half for a whole step to gain.
    return seconds(torch.bfloat16) * 1.5 < seconds(torch.float32)
