"""Which GPUs `--gpus` means, as told by an nvidia-smi of the test's own."""

import pytest

from workers import gpus

TWO = """\
GPU 0: NVIDIA H200 (UUID: GPU-11111111-aaaa-bbbb-cccc-000000000000)
  MIG 1g.18gb     Device  0: (UUID: MIG-99999999-aaaa-bbbb-cccc-000000000000)
GPU 1: NVIDIA H200 (UUID: GPU-22222222-aaaa-bbbb-cccc-000000000000)
"""


@pytest.fixture
def machine(tmp_path):
    """A machine whose nvidia-smi says so, and ends with such a code."""

    def make(says, code=0):
        smi = tmp_path / "nvidia-smi"
        smi.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] || exit 9\ncat <<'END'\n{says}\nEND\nexit {code}\n")
        smi.chmod(0o755)
        return {"environment": {"PATH": str(tmp_path)}, "driver": tmp_path / "none"}

    return make


@pytest.fixture(autouse=True)
def _cat(tmp_path):
    (tmp_path / "cat").symlink_to("/bin/cat")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("all", ["0", "1"]),
        ("1", ["1"]),
        ("1, 0", ["1", "0"]),
        ("none", []),
        ("GPU-22222222-aaaa-bbbb-cccc-000000000000", ["GPU-22222222-aaaa-bbbb-cccc-000000000000"]),
        ("MIG-99999999-aaaa-bbbb-cccc-000000000000", ["MIG-99999999-aaaa-bbbb-cccc-000000000000"]),
    ],
)
def test_choices(machine, wanted, found):
    assert gpus.chosen(wanted, **machine(TWO)) == found


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("2", "2 is not among 0, 1"),
        ("0,0", "named twice"),
        ("", "'' is no GPU"),
        ("0,", "'' is no GPU"),
        ("-1", "'-1' is no GPU"),
        ("cuda:0", "'cuda:0' is no GPU"),
        ("GPU-3", "GPU-3 is not among"),
    ],
)
def test_choices_that_cannot_be(machine, wanted, reason):
    with pytest.raises(gpus.GpuChoiceError, match=reason) as caught:
        gpus.chosen(wanted, **machine(TWO))
    assert caught.value.exit_code == 2


def test_a_driver_that_fails_is_quoted(machine):
    says = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    with pytest.raises(gpus.NoGpuError, match="couldn't communicate"):
        gpus.chosen("all", **machine(says, 9))
    with pytest.raises(gpus.NoGpuError, match="No devices found"):
        gpus.chosen("all", **machine("No devices found"))


def test_without_nvidia_smi_the_driver_is_counted(tmp_path):
    driver = tmp_path / "gpus"
    for address in ("0000:01:00.0", "0000:41:00.0"):
        (driver / address).mkdir(parents=True)
    assert gpus.chosen("all", environment={"PATH": str(tmp_path)}, driver=driver) == ["0", "1"]


def test_without_any_driver_it_says_what_to_do(tmp_path):
    with pytest.raises(gpus.NoGpuError, match=r"neither nvidia-smi nor .* `--gpus none` runs"):
        gpus.chosen("all", environment={"PATH": str(tmp_path)}, driver=tmp_path / "none")


def test_what_is_hidden_stays_hidden(machine):
    there = machine(TWO)
    there["environment"]["CUDA_VISIBLE_DEVICES"] = "1"
    assert gpus.chosen("all", **there) == ["1"]
    with pytest.raises(gpus.GpuChoiceError, match="0 is not among 1"):
        gpus.chosen("0", **there)
    there["environment"]["CUDA_VISIBLE_DEVICES"] = ""
    with pytest.raises(gpus.NoGpuError, match="hides every GPU"):
        gpus.chosen("all", **there)
    assert gpus.chosen("none", **there) == []
