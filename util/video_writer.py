"""Writes an H.264 video that a browser plays: yuv420p through PyAV, at the given size and rate."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from util.errors import InputError

ENCODERS = ("libx264", "libopenh264", "h264")  # a PyAV wheel brings the first; others may be all a system has
BT601 = 6  # "smpte170m" in H.264's table of matrices
FINEST_RATE = 1001 * 60  # 29.97 and its like are multiples of 1/1001


class VideoWriter:
    """Frames in, a finished file out: `with VideoWriter(path, fps=25) as video: video.write(frame)`.

    The file appears under its name when the block ends without an error; until then it has the suffix `.part`.
    H.264 at 4:2:0 has even sides only: an odd one is continued by its last row or column.
    """

    def __init__(self, path: Path, *, fps: float) -> None:
        """Raises InputError when there is no H.264 encoder or the file cannot be written."""
        self.path = path
        self._fps = Fraction(fps if fps > 0 else 1).limit_denominator(FINEST_RATE)
        self._part = path.with_name(path.name + ".part")
        self._size: tuple[int, int] | None = None
        self._stream: Any = None
        self._container = self._guarded(self._open)

    def write(self, frame_HW3: np.ndarray) -> None:
        """Add a frame, uint8 RGB. Raises InputError when it has another size than the first, and on a full disk."""
        if self._size is None:
            self._size = frame_HW3.shape[:2]
            self._stream = self._guarded(self._add_stream)
        if frame_HW3.shape[:2] != self._size:
            raise InputError(f"a frame of {frame_HW3.shape[:2]} in a video of {self._size}; all need one size")
        self._guarded(lambda: self._encode(frame_HW3))

    def close(self) -> None:
        """Finish the file and give it its name. Raises InputError when nothing was written, and on a full disk."""
        if self._stream is None:
            self.abandon()
            raise InputError(f"{self.path.name} would have no frames; write at least one")

        def finish() -> None:
            self._container.mux(self._stream.encode())
            self._container.close()
            os.replace(self._part, self.path)

        try:
            self._guarded(finish)
        except InputError:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):  # its trailer does not matter any more
            self._container.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _open(self) -> Any:
        import av

        self.path.parent.mkdir(parents=True, exist_ok=True)
        # faststart: the index comes first, so that a browser begins before it has the whole file
        return av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})

    def _add_stream(self) -> Any:
        import av

        assert self._size is not None
        name = next((name for name in ENCODERS if name in av.codecs_available and _encodes(name)), None)
        if name is None:
            raise InputError("this PyAV has no H.264 encoder; install one that has: pip install --force-reinstall av")
        stream: Any = self._container.add_stream(name, rate=self._fps)
        stream.height, stream.width = (side + side % 2 for side in self._size)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = BT601  # what the conversion from RGB uses; unsaid, players guess by size
        if name == "libx264":
            stream.options = {"crf": "20", "preset": "medium"}
        return stream

    def _encode(self, frame_HW3: np.ndarray) -> None:
        import av

        height, width = frame_HW3.shape[:2]
        even = np.pad(frame_HW3, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), "rgb24")))

    def _guarded(self, action: Any) -> Any:
        """PyAV's errors are OSErrors too, so one clause covers the disk and the encoder."""
        try:
            return action()
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"cannot write {self.path}: {reason}; free space or choose another folder") from error


def _encodes(name: str) -> bool:
    import av

    try:
        av.codec.Codec(name, "w")
    except (ValueError, OSError):
        return False
    return True
