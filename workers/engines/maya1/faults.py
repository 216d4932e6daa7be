"""What goes wrong on a device, told apart: it has no memory left, it can never be trusted again, or neither."""

import torch

from storage import errors
from workers.engines.engine import DeviceFaultError

# In what torch, cuBLAS, cuDNN and Triton raise, each as a RuntimeError.
NO_MEMORY = "out of memory", "STATUS_ALLOC_FAILED"
BROKEN = "CUDA error", "cuDNN error", "Triton Error [CUDA]"


class EngineBrokenError(DeviceFaultError):
    """The engine maya1 broke and ends with this process: {reason}. What was in flight is rendered again by another."""


class EngineClosedError(errors.VoicemillError):
    """The engine maya1 was closed."""


class OutOfDeviceMemoryError(errors.VoicemillError):
    """The device has no memory for even one sequence: choose a smaller VOICEMILL_MAYA1_CONTEXT, or an 8-bit cache."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether less memory would have done. A graph's capture raises an error of its own on top, so it looks below too."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError) or _says(error, NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_fault(error: BaseException) -> bool:
    """Whether the accelerator itself failed: whatever runs on it next fails as well."""
    accelerator = getattr(torch, "AcceleratorError", ())  # from torch 2.8 on
    return not is_out_of_memory(error) and (isinstance(error, accelerator) or _says(error, BROKEN))


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
