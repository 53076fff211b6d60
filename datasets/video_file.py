"""Video files, read by frame number: exact for any order of access and for a variable frame rate.

PyAV decodes. The file is listed once without decoding, which gives every frame's time stamp and where decoding can
start; frame i is then the frame that carries the i-th time stamp. Without PyAV, OpenCV reads from the start.
"""

from __future__ import annotations

import bisect
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import InputError

HELD_BYTES = 96 << 20  # decoded frames kept, so that walking backwards does not decode from the key frame each time


class FileVideo:
    """A video file. Use it from one thread and one process; it keeps the file open."""

    def __init__(self, path: str | Path, *, fps: float | None = None) -> None:
        """Raises InputError when the file is missing, is no video, is cut short or holds no frames."""
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no such file: {path}; check the path")
        self.path = path
        self._reader = _open_reader(path)
        self.fps = float(fps or self._reader.fps)
        self.size: tuple[int, int] = self._reader.read(0).shape[:2]
        self.names = tuple(f"{i:05d}" for i in range(len(self)))

    def __len__(self) -> int:
        return self._reader.length

    def __getitem__(self, index: int) -> np.ndarray:
        """Frame `index`, uint8 [H, W, 3]. Raises IndexError outside the video, InputError for a damaged frame."""
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"frame {index} of a video of {length}")
        frame_HW3 = self._reader.read(index % length)
        if frame_HW3.shape[:2] != getattr(self, "size", frame_HW3.shape[:2]):
            raise InputError(
                f"{self._reader.path}: frame {index} has another size than the first; re-encode it to one size: "
                f"ffmpeg -i {self._reader.path.name} -vf scale={self.size[1]}:{self.size[0]} fixed.mp4"
            )
        return frame_HW3


def _open_reader(path: Path) -> _AvReader | _OpenCvReader:
    try:
        import av  # noqa: F401
    except ImportError:
        return _OpenCvReader(path)
    return _AvReader(path)


def _damaged(path: Path, index: int) -> InputError:
    return InputError(
        f"{path}: frame {index} cannot be decoded; the file is damaged or cut short: copy it again, or keep what is "
        f"readable with `ffmpeg -i {path.name} -c:v libx264 repaired.mp4`"
    )


class _AvReader:
    """Frames by time stamp through PyAV."""

    def __init__(self, path: Path) -> None:
        import av

        self.path = path
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._decoder: Iterator[tuple[int, Any]] = iter(())
        self._next = sys.maxsize  # the frame that the decoder gives next; here: none
        self._numbers: dict[int, int] | None = None
        try:
            self._open()
            self._list_frames()
        except (av.FFmpegError, IndexError) as error:
            raise InputError(f"cannot read {path} as a video: {error}; is it a video file, copied whole?") from error
        if not self.length:
            raise InputError(f"no frames in {path}; it may be cut short or hold sound only")
        self.fps = self._rate()
        if self._stream.frames > self._packets:  # fewer than the header promises: trimmed by an edit list, or cut short
            self.read(self.length - 1)

    def _open(self) -> None:
        import av

        self._container = av.open(str(self.path))
        self._stream: Any = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"

    def _list_frames(self) -> None:
        """Time stamps of all frames and the numbers of those where decoding can start, without decoding."""
        stamps: list[Any] = []
        starts: list[Any] = []
        packets = 0
        for packet in self._container.demux(self._stream):
            if packet.size == 0:  # the end marker
                continue
            packets += 1
            if not packet.is_discard:
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    starts.append(packet.pts)
        self._packets = packets
        if None in stamps or len(set(stamps)) < len(stamps):  # no usable time stamps: count frames from the start
            self._numbers, self._starts = None, [0]
            self._seek(0)
            self._stamps = [number for number, _ in self._decoder]
        else:
            self._stamps = sorted(stamps)
            self._numbers = {stamp: number for number, stamp in enumerate(self._stamps)}
            self._starts = sorted({0, *(self._numbers[stamp] for stamp in starts)})
        self.length = len(self._stamps)

    def _rate(self) -> float:
        """Mean frames per second: exact for a constant rate, sensible for a variable one."""
        span = float((self._stamps[-1] - self._stamps[0]) * self._stream.time_base) if self._numbers else 0.0
        if span > 0:
            return (self.length - 1) / span
        return float(self._stream.average_rate or 25)

    def read(self, index: int) -> np.ndarray:
        if index not in self._held:
            self._decode_up_to(index)
        self._held.move_to_end(index)
        return _upright(self._held[index])

    def _decode_up_to(self, index: int) -> None:
        start = self._starts[bisect.bisect_right(self._starts, index) - 1]
        attempts = [start, 0] if start else [0]
        if start <= self._next <= index:  # already on the way
            attempts.insert(0, -1)
        for attempt in attempts:
            if attempt >= 0:
                self._seek(attempt)
            for number, frame in self._decoder:
                if number >= max(attempt, 0):  # before it: remains of the group of pictures before the seek
                    self._hold(number, frame)
                self._next = number + 1
                if number >= index:
                    break
            if index in self._held:
                return
        raise _damaged(self.path, index)

    def _seek(self, start: int) -> None:
        if self._numbers is None:  # a file without time stamps cannot be sought in
            self._container.close()
            self._open()
        else:
            self._container.seek(self._stamps[start], stream=self._stream, backward=True)
        self._decoder = self._numbered(start)

    def _numbered(self, start: int) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers. Damaged packets are passed over; the frames they held do not come."""
        import av

        count = start
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                number = self._numbers.get(frame.pts) if self._numbers else count
                count += 1
                if number is not None:
                    yield number, frame

    def _hold(self, number: int, frame: Any) -> None:
        self._held[number] = frame
        limit = max(2, HELD_BYTES // (2 * frame.width * frame.height))  # decoded frames are some 1.5 bytes a pixel
        while len(self._held) > limit:
            self._held.popitem(last=False)


def _upright(frame: Any) -> np.ndarray:
    """RGB pixels, turned as the file says (telephones film sideways and note the angle)."""
    frame_HW3 = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(frame_HW3, round(frame.rotation / 90) % 4))


class _OpenCvReader:
    """Frames counted from the start through OpenCV, whose own seeking is not exact."""

    def __init__(self, path: Path) -> None:
        import cv2

        self.path = path
        self._cv2 = cv2
        self._rewind()
        self.length = 0
        while self._capture.grab():
            self.length += 1
        if not self.length:
            raise InputError(f"cannot read {path} as a video, or it has no frames; `pip install av` reads more formats")
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS) or 25)
        self._rewind()

    def _rewind(self) -> None:
        self._capture = self._cv2.VideoCapture(str(self.path))
        self._next = 0

    def read(self, index: int) -> np.ndarray:
        if index < self._next - 1:
            self._rewind()
        while self._next <= index:
            if not self._capture.grab():
                raise _damaged(self.path, index)
            self._next += 1
        found, frame_HW3 = self._capture.retrieve()
        if not found:
            raise _damaged(self.path, index)
        return self._cv2.cvtColor(frame_HW3, self._cv2.COLOR_BGR2RGB)
