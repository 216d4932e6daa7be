"""From settings to an engine that is loaded and warm: device, precision, weights, slots, vocoder."""

import logging
from collections.abc import Callable

import torch

from workers.engines.engine import EngineUnavailableError
from workers.engines.maya1 import cache, checkpoint, decode, hub, kernels, vocoder
from workers.engines.maya1.checkpoint import Checkpoint
from workers.engines.maya1.engine import Maya1Engine
from workers.engines.maya1.kernels import plain
from workers.engines.maya1.model import Model
from workers.engines.maya1.prompt import Prompts
from workers.engines.maya1.revoice import Revoicer
from workers.engines.maya1.settings import Maya1Settings

logger = logging.getLogger(__name__)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
NAMES = {dtype: name for name, dtype in (DTYPES | cache.KV_DTYPES).items()}
AMPERE = (8, 0)  # compute capability: the first with bfloat16
ADA = (8, 9)  # the first with 8-bit floats
VOCODER_BATCH = 64  # takes, on a GPU: on a CPU a batch gains nothing
DECODER_VERSION = 1  # raised when the same settings come to give other tokens


def load(settings: Maya1Settings) -> Maya1Engine:
    """The engine, warm. Raises EngineUnavailableError or hub.CheckpointError."""
    device = find_device(settings.maya1_device)
    opened = open_checkpoint(settings)
    dtype = find_dtype(settings, device)
    sound = load_vocoder(settings, device)
    model = make_model(opened, settings, device, dtype)
    kv_dtype = cache.KV_DTYPES.get(settings.maya1_kv_dtype, dtype)
    precision = {
        "model": NAMES[dtype],
        "cache": NAMES[kv_dtype],
        "products": settings.maya1_gemm.replace("auto", NAMES[dtype]),
    }
    engine = Maya1Engine(
        make_decoder=_decoders(model, kv_dtype, settings.maya1_context, device),
        slots=settings.maya1_slots or cache.usual_slots(model.shape, settings.maya1_context, kv_dtype, device),
        prompts=Prompts(opened.tokenizer, settings.maya1_bos == "double"),
        vocoder=sound,
        identity={
            "name": "maya1",
            "version": DECODER_VERSION,
            "model": opened.fingerprint(),
            "codec": dict(sound.identity),
            "precision": precision,
            "bos": settings.maya1_bos,
            "trim_first_frame": settings.maya1_trim_first_frame,
        },
        context=settings.maya1_context,
        trim_first_frame=settings.maya1_trim_first_frame,
        vocoder_batch=_vocoder_batch(device),
    )
    told = ", ".join(f"{name} in {value}" for name, value in precision.items())
    how = f"on {device}, {told}, {engine.slots} sequences at once"
    logger.info("maya1 of %s: %s; %s", opened.path, opened.facts(), how)
    engine.warm_up()
    return engine


def load_revoicer(settings: Maya1Settings) -> Revoicer:
    """What makes sound of kept codes again. Raises EngineUnavailableError or hub.CheckpointError."""
    device = find_device(settings.maya1_device)
    return Revoicer(load_vocoder(settings, device), settings.maya1_trim_first_frame, _vocoder_batch(device))


def _vocoder_batch(device: torch.device) -> int:
    return VOCODER_BATCH if device.type == "cuda" else 1


def load_vocoder(settings: Maya1Settings, device: torch.device) -> vocoder.Vocoder:
    """The codec, found or fetched. Raises hub.CheckpointError, snac.CodecUnusableError, tensorrt.TensorRTError."""
    return vocoder.load(
        hub.codec(settings),
        device,
        settings.maya1_cache.expanduser(),
        backend=settings.maya1_vocoder,
        noise=settings.maya1_vocoder_noise,
    )


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
    old, reason = capability is not None and capability < ADA, None
    if settings.maya1_gemm == "fp8" and old:
        reason = "this GPU has no 8-bit products (VOICEMILL_MAYA1_GEMM)"
    elif settings.maya1_gemm == "fp8" and settings.maya1_dtype not in ("auto", "bf16"):
        asked = f"VOICEMILL_MAYA1_DTYPE={settings.maya1_dtype}"
        reason = f"8-bit products come out as bf16 (VOICEMILL_MAYA1_GEMM), which {asked} is not"
    elif settings.maya1_kv_dtype == "fp8" and old:
        reason = "this GPU has no 8-bit floats (VOICEMILL_MAYA1_KV_DTYPE); int8 works on it"
    if reason is not None:
        raise EngineUnavailableError(engine="maya1", reason=reason)
    if settings.maya1_dtype != "auto":
        return DTYPES[settings.maya1_dtype]
    if capability is None:
        return torch.bfloat16 if settings.maya1_gemm == "fp8" else torch.float32
    return torch.bfloat16 if capability >= AMPERE else torch.float16


def open_checkpoint(settings: Maya1Settings) -> Checkpoint:
    """The language model's files, found or fetched, and checked. Raises hub.CheckpointError."""
    path = hub.model(settings)
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
    if device.type == "cuda" and model.kernels is not plain:  # which waits for the device, as no graph can
        from workers.engines.maya1 import cuda

        runner = cuda.graph_runner

    def make(slots: int) -> decode.Decoder:
        stretches = cache.Cache(model.shape, slots, context, kv_dtype, device)
        return decode.Decoder(model, stretches, runner)

    return make
