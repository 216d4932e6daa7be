"""What is fixed about Maya1: token ids, tags, the frame of seven tokens. Source: its published constants."""

BOS = 128_000  # Llama's begin of text
TEXT_END = 128_009  # Llama's end of turn: closes the text inside the prompt, and must never stop a generation
SPEECH_START = 128_257  # the last token of a prompt
SPEECH_END = 128_258  # the only token that ends a generation
HUMAN_START = 128_259
HUMAN_END = 128_260
ANSWER_START = 128_261
AUDIO_START = 128_266  # id of slot 0, code 0; id = AUDIO_START + slot * CODES + code
FIRST_SPECIAL = 128_000  # text never uses an id from here up, but for the tags

FRAME = 7  # tokens
CODES = 4096  # values of one token
AUDIO_END = AUDIO_START + FRAME * CODES  # one past the last audio id
MIN_FRAMES = 4  # min_new_tokens 28: the end of speech is forbidden before that
SAMPLES_PER_FRAME = 2048  # at 24 kHz
SAMPLE_RATE = 24_000  # Hz
TOKENS_PER_SECOND = FRAME * SAMPLE_RATE / SAMPLES_PER_FRAME  # 82.03125

# Slot 0 is SNAC's coarse code; slots 1 and 4 are its two middle codes; slots 2, 3, 5, 6 its four fine ones.
SNAC_LEVELS = ((0,), (1, 4), (2, 3, 5, 6))

TAGS = (
    "angry", "appalled", "chuckle", "cry", "curious", "disappointed", "excited", "exhale", "gasp", "giggle",
    "gulp", "laugh", "laugh_harder", "mischievous", "sarcastic", "scream", "sigh", "sing", "snort", "whisper",
)  # fmt: skip
