"""Detector, segmenter and matcher that know the truth of labelled videos, and err at stated rates.

How they err, and that no score tells of it, is `faults`' to say.
"""

from .detector import ScriptedDetector
from .faults import Faults
from .matcher import ScriptedMatcher
from .segmenter import ScriptedSegmenter
from .truth import Truth

__all__ = ["Faults", "ScriptedDetector", "ScriptedMatcher", "ScriptedSegmenter", "Truth"]
