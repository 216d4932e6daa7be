"""The program of a child process: one espeak-ng library behind two pipes.

Run by path, with nothing but the standard library: `python -I -S child.py LIBRARY DATA_FOLDER`.

What espeak-ng says of a text depends on all it said before (the phase of its oscillators, the place in its flutter
table, `rand`). So no text is ever spoken here: each is spoken by a fork of this process, which has loaded the library
and has said nothing yet. That costs about a millisecond, makes every rendering the same to the byte, and keeps what breaks
the library away from the next text.

In:   4 bytes of length (little-endian), then as many of JSON: `Order`'s fields.
Out:  pieces of 4 bytes of length and as many bytes; a piece of length 0 ends an answer. The first piece of all is the
      greeting, in JSON; every other is PCM, mono, signed 16-bit. An answer that cannot be given ends the process.
"""

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

LENGTH = struct.Struct("<I")
BUFFER_MS = 1000  # of sound in one piece. It shapes the sound itself: espeak drops the end of a pitch period at each seam

SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: speak in this thread, into the callback
DONT_EXIT = 0x8000  # espeak_Initialize: report a missing voice folder, do not exit
CHARS_UTF8 = (
    1  # espeak_Synth, without espeakSSML (0x10) and espeakPHONEMES (0x100): text is text, whatever it holds
)
WPM, VOLUME, PITCH, RANGE, PUNCTUATION, CAPITALS, WORD_GAP = range(1, 8)  # espeak_PARAMETER
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
BROKEN = 70  # exit status (EX_SOFTWARE): the library or its data is not what it should be


def main(library_path: str, data_folder: str) -> None:
    """Greet, then answer orders until the pipe is closed: by the parent, or by its death."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the parent, which closes the pipe when it is ready
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever the library prints is no answer
    library, sample_rate = _load(library_path, data_folder)
    version = str(library.espeak_Info(None), "ascii")
    _send(answers, json.dumps({"version": version, "sample_rate": sample_rate}).encode())
    with open(0, "rb") as orders:
        while len(head := orders.read(LENGTH.size)) == LENGTH.size:
            order = json.loads(orders.read(*LENGTH.unpack(head)))
            _fork(library, order, answers)


def _load(library_path: str, data_folder: str) -> tuple[ctypes.CDLL, int]:
    """The library, ready and with the largest dictionary in memory, and its sample rate in Hz."""
    os.chdir(data_folder)
    library = ctypes.CDLL(library_path)
    library.espeak_Info.restype = ctypes.c_char_p
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    here = b"."  # the library keeps 160 bytes of a path at most, and installations may lie deeper
    sample_rate = library.espeak_Initialize(SYNCHRONOUS, BUFFER_MS, here, DONT_EXIT)
    if sample_rate <= 0:
        sys.exit(BROKEN)
    library.espeak_ng_SetRandSeed(ctypes.c_long(0))  # which was the time of day: breathy voices are made of it
    library.espeak_SetVoiceByName(b"en")  # reading its dictionary takes 3 ms: once here, not once a text
    return library, sample_rate


def _fork(library: ctypes.CDLL, order: Mapping[str, Any], answers: int) -> None:
    """Have a fork speak the text, and end where it does not end well: the parent sees the pipe close."""
    process = os.fork()
    if process == 0:
        _speak(library, order, answers)
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        sys.exit(code if code > 0 else 128 - code)  # 128 + signal, as shells have it


def _speak(library: ctypes.CDLL, order: Mapping[str, Any], answers: int) -> NoReturn:
    """Speak one text into the pipe, and exit."""
    signal.alarm(order["seconds"])  # should the parent be gone, nobody else would end a rendering that hangs

    def sink(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            _send(answers, ctypes.string_at(samples, 2 * count))
        return 0

    callback = CALLBACK(sink)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(order["voice"].encode()) != 0:
        os._exit(BROKEN)
    parameters = {WPM: "rate", VOLUME: "volume", PITCH: "pitch", RANGE: "range", WORD_GAP: "word_gap"}
    for parameter, name in parameters.items():
        library.espeak_SetParameter(parameter, order[name], 0)
    text = order["text"].encode()
    library.espeak_Synth(text, len(text) + 1, 0, 1, 0, CHARS_UTF8, None, None)
    _send(answers, b"")
    os._exit(0)


def _send(pipe: int, piece: bytes) -> None:
    data = memoryview(LENGTH.pack(len(piece)) + piece)
    while data:
        data = data[os.write(pipe, data) :]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
