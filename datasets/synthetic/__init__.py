"""A world of moving shapes with exact masks and sentences that are true of exactly their referents."""

from .videos import SyntheticConfig, SyntheticVideos

__all__ = ["SyntheticConfig", "SyntheticVideos"]
