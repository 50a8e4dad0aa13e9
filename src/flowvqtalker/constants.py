"""Constants shared by every part; the meaning of each is settled in docs/conventions.md."""

FPS_HZ = 25
SAMPLE_RATE_HZ = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS_HZ

#: MEAD's eight emotions; the index in this tuple is the label everywhere.
EMOTIONS = ("neutral", "angry", "contempt", "disgusted", "fear", "happy", "sad", "surprised")
N_EMOTIONS = len(EMOTIONS)
LEVELS = (1, 2, 3)

#: Camera of every crop: focal length in units of the crop's side, distance of the camera from the head frame's origin.
CROP_FOCAL_PER_SIZE = 3.0
CROP_DISTANCE_CM = 60.0

#: Upper and lower lid pairs of each eye, and upper and lower inner lip pairs (68 iBUG landmarks).
RIGHT_LID_PAIRS = ((37, 41), (38, 40))
LEFT_LID_PAIRS = ((43, 47), (44, 46))
LIP_PAIRS = ((61, 67), (62, 66), (63, 65))
#: All of them: pairs whose distance is worth more than their places, and which meet and never cross.
GAP_PAIRS = (*RIGHT_LID_PAIRS, *LEFT_LID_PAIRS, *LIP_PAIRS)


def intensity_of(emotion: str, level: int) -> float:
    """Intensity [0, 1] of a labelled clip: a third per level, 0 for neutral whatever its level."""
    return 0.0 if emotion == "neutral" else level / len(LEVELS)
