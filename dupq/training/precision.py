"""Which arithmetic trains fastest here: asked of the machine, not guessed from its name."""

from __future__ import annotations

import time


def bfloat16_is_faster(repeats: int = 5) -> bool:
    """Times one matrix product of a small transformer in float32 and in bfloat16 (about 50 ms in all).

    Processors with bfloat16 matrix units (Intel AMX, Arm BF16) are several times faster with it; others emulate it and
    are slower. GPUs that have bfloat16 units are always faster with it.
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

    # Autocast also pays for the casts, so a small gain in the product is a loss over the whole step.
    return seconds(torch.bfloat16) * 1.5 < seconds(torch.float32)
