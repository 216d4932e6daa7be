"""From settings to an engine that is loaded and warm: device, precision, weights, slots, vocoder."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from workers.engines.engine import EngineUnavailableError
from workers.engines.maya1 import cache, checkpoint, constants, decode, hub, kernels, vocoder
from workers.engines.maya1.checkpoint import Checkpoint
from workers.engines.maya1.engine import Maya1Engine
from workers.engines.maya1.kernels import plain
from workers.engines.maya1.model import Model
from workers.engines.maya1.prompt import Prompts
from workers.engines.maya1.settings import Maya1Settings

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
NAMES = {dtype: name for name, dtype in (DTYPES | cache.KV_DTYPES).items()}
AMPERE = (8, 0)  # compute capability: the first with bfloat16
ADA = (8, 9)  # the first with 8-bit floats
RESERVE = 0.10  # of the free memory, for activations, graphs and the vocoder
CPU_SLOTS = 8
GPU_SLOTS = 512  # more gains nothing with a 16-bit cache: reading it is what takes the time
GPU_SLOTS_8_BIT = 1024
VOCODER_BATCH = 64  # takes
DECODER_VERSION = 1  # raised when the same settings come to give other tokens


def load(settings: Maya1Settings) -> Maya1Engine:
    """The engine, warm. Raises EngineUnavailableError or hub.CheckpointError."""
    device = find_device(settings.maya1_device)
    opened = open_checkpoint(settings)
    codec = hub.directory(settings.maya1_snac, settings.maya1_snac_revision, hub.CODEC_FILES)
    dtype = find_dtype(settings, device)
    model = make_model(opened, settings, device, dtype)
    sound = vocoder.load(
        codec,
        device,
        settings.maya1_cache.expanduser(),
        backend=settings.maya1_vocoder,
        noise=settings.maya1_vocoder_noise,
    )
    kv_dtype = cache.KV_DTYPES.get(settings.maya1_kv_dtype, dtype)
    precision = {
        "model": NAMES[dtype],
        "cache": NAMES[kv_dtype],
        "products": settings.maya1_gemm.replace("auto", NAMES[dtype]),
    }
    engine = Maya1Engine(
        make_decoder=_decoders(model, kv_dtype, settings.maya1_context, device),
        slots=settings.maya1_slots or _slots(model, kv_dtype, settings.maya1_context, device),
        prompts=Prompts(opened.tokenizer, settings.maya1_bos == "double"),
        vocoder=sound,
        identity=_identity(settings, opened, sound, precision),
        context=settings.maya1_context,
        trim_first_frame=settings.maya1_trim_first_frame,
        vocoder_batch=VOCODER_BATCH if device.type == "cuda" else 1,  # on a CPU a batch gains nothing
    )
    engine.warm_up()
    return engine


def find_device(name: str) -> torch.device:
    """The device of a setting. Raises EngineUnavailableError if this machine has none such."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EngineUnavailableError(
            engine="maya1", reason=f"there is no kind of device named {name!r}"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        reason = f"VOICEMILL_MAYA1_DEVICE is {name}, and torch {torch.__version__} sees no such GPU"
        raise EngineUnavailableError(engine="maya1", reason=reason)
    return device


def find_dtype(settings: Maya1Settings, device: torch.device) -> torch.dtype:
    """The model's precision on a device. Raises EngineUnavailableError if the device cannot do what is asked."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    if settings.maya1_gemm == "fp8" and capability and capability < ADA:
        raise EngineUnavailableError(
            engine="maya1", reason="this GPU has no 8-bit products (VOICEMILL_MAYA1_GEMM)"
        )
    if settings.maya1_kv_dtype == "fp8" and capability and capability < ADA:
        reason = "this GPU has no 8-bit floats (VOICEMILL_MAYA1_KV_DTYPE); int8 works on it"
        raise EngineUnavailableError(engine="maya1", reason=reason)
    if settings.maya1_dtype != "auto":
        return DTYPES[settings.maya1_dtype]
    if capability is None:
        return torch.bfloat16 if settings.maya1_gemm == "fp8" else torch.float32
    return torch.bfloat16 if capability >= AMPERE else torch.float16


def open_checkpoint(settings: Maya1Settings) -> Checkpoint:
    """The language model's files, found or fetched, and checked. Raises hub.CheckpointError."""
    path = hub.directory(settings.maya1_model, settings.maya1_revision, hub.MODEL_FILES)
    opened = checkpoint.open_directory(path)
    if settings.maya1_context > opened.shape.positions:
        reason = f"it has {opened.shape.positions} positions, and VOICEMILL_MAYA1_CONTEXT is {settings.maya1_context}"
        raise hub.CheckpointError(model=path, reason=reason)
    return opened


def make_model(opened: Checkpoint, settings: Maya1Settings, device: torch.device, dtype: torch.dtype) -> Model:
    """The language model on the device, with the kernels that suit it."""
    weights = opened.load(device, dtype, fp8=settings.maya1_gemm == "fp8")
    return Model(opened.shape, weights, kernels.select(device), settings.maya1_context)


def _decoders(
    model: Model, kv_dtype: torch.dtype, context: int, device: torch.device
) -> Callable[[int], decode.Decoder]:
    runner = None
    if (
        device.type == "cuda" and model.kernels is not plain
    ):  # those wait for the device, so no graph can hold them
        from workers.engines.maya1 import cuda

        runner = cuda.graph_runner

    def make(slots: int) -> decode.Decoder:
        stretches = cache.Cache(model.shape, slots, context, kv_dtype, device)
        return decode.Decoder(model, stretches, runner)

    return make


def _slots(model: Model, kv_dtype: torch.dtype, context: int, device: torch.device) -> int:
    """As many sequences as the free memory of the device holds, in eights."""
    if device.type != "cuda":
        return CPU_SLOTS
    free, _ = torch.cuda.mem_get_info(device)
    seen = constants.FRAME * constants.CODES  # bytes
    each = cache.slot_bytes(model.shape, context, kv_dtype) + seen
    most = GPU_SLOTS_8_BIT if kv_dtype in cache.KV_DTYPES.values() else GPU_SLOTS
    fitting = int(free * (1 - RESERVE)) // each - 1
    return max(1, min(most, fitting // 8 * 8))


def _identity(
    settings: Maya1Settings, opened: Checkpoint, sound: vocoder.Vocoder, precision: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "name": "maya1",
        "version": DECODER_VERSION,
        "model": opened.fingerprint(),
        "codec": dict(sound.identity),
        "precision": dict(precision),
        "bos": settings.maya1_bos,
        "trim_first_frame": settings.maya1_trim_first_frame,
    }
