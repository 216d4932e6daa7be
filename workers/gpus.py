"""Which GPUs a worker may use, without torch: asked of nvidia-smi, else of the driver's folder under /proc."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from storage import errors

DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")  # one folder a GPU, named by its PCI address
SMI_TIMEOUT = 60.0  # seconds: without its persistence mode the driver starts up first
LISTED = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[0-9a-f-]+)\)", re.MULTILINE)
MIG = re.compile(r"\(UUID: (MIG-[^)\s]+)\)")  # a slice of a GPU
NAME = re.compile(r"\d{1,4}|(GPU|MIG)-\S+", re.ASCII)
NONE = ("", "-1", "NoDevFiles")  # what people and containers write into CUDA_VISIBLE_DEVICES for none


class NoGpuError(errors.InputError):
    """--gpus {wanted}: {reason}. `--gpus none` runs one worker without a GPU."""


class GpuChoiceError(errors.InputError):
    """--gpus {wanted}: {reason}. Write `all`, `none`, or numbers as `nvidia-smi` lists them: 0,2."""


def chosen(
    wanted: str, *, environment: Mapping[str, str] = os.environ, driver: Path = DRIVER_FOLDER
) -> list[str]:
    """What `--gpus all|0,2|none` means here: a value of CUDA_VISIBLE_DEVICES for each worker, none for `none`.

    Numbers are those of `nvidia-smi` (PCI order). GPU-… and MIG-… ids of its `-L` are taken too; `all` means whole GPUs,
    not their slices. Where CUDA_VISIBLE_DEVICES is set already (by Slurm, say), the choice is among its own.
    Raises NoGpuError, GpuChoiceError.
    """
    if wanted == "none":
        return []
    picked = [] if wanted == "all" else [part.strip() for part in wanted.split(",")]
    for part in picked:
        if not NAME.fullmatch(part):
            raise GpuChoiceError(wanted=wanted, reason=f"{part!r} is no GPU")
    if len(picked) != len(set(picked)):
        raise GpuChoiceError(wanted=wanted, reason="one GPU is named twice")
    numbers, ids = _present(wanted, environment, driver)
    for part in picked:
        if part not in numbers and part not in ids:
            raise GpuChoiceError(wanted=wanted, reason=f"{part} is not among {', '.join(numbers)}")
    return picked or numbers


def _present(wanted: str, environment: Mapping[str, str], driver: Path) -> tuple[list[str], set[str]]:
    """The GPUs that there are, and other names that some have."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        visible = [part.strip() for part in given.split(",")]
        if visible[0] in NONE:
            raise NoGpuError(wanted=wanted, reason=f"CUDA_VISIBLE_DEVICES is {given!r}, which hides every GPU")
        return visible, set()
    smi = shutil.which("nvidia-smi", path=environment.get("PATH", os.defpath))
    if smi is not None:
        return _ask_smi(wanted, smi)
    count = len(list(driver.iterdir())) if driver.is_dir() else 0
    if not count:
        raise NoGpuError(wanted=wanted, reason="there is neither nvidia-smi nor an NVIDIA driver here")
    return [str(index) for index in range(count)], set()


def _ask_smi(wanted: str, smi: str) -> tuple[list[str], set[str]]:
    try:
        answer = subprocess.run([smi, "-L"], capture_output=True, text=True, timeout=SMI_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoGpuError(wanted=wanted, reason=f"nvidia-smi failed ({error})") from error
    found = LISTED.findall(answer.stdout)
    if answer.returncode or not found:
        said = (answer.stdout + answer.stderr).strip().splitlines() or [f"exit code {answer.returncode}"]
        raise NoGpuError(wanted=wanted, reason=f"nvidia-smi finds none ({said[0].rstrip('.')})")
    return [index for index, _ in found], {name for _, name in found} | set(MIG.findall(answer.stdout))
