"""The processor and the packages that a measurement ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("onnxruntime", "onnx", "torch", "numpy")
_WIDE = {"avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI", "avx512f": "AVX-512", "avx2": "AVX2"}


def about_machine() -> dict[str, Any]:
    """Return the processor's name and its widest instructions for int8, its cores, the load, and versions."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = found.get("flags", "").split()
    return {
        "processor": found.get("model name") or platform.processor() or platform.machine(),
        "instructions": next((name for flag, name in _WIDE.items() if flag in flags), None),
        "family": [found.get("cpu family"), found.get("model")],
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in PACKAGES},
    }
