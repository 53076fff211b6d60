"""Video sources: any order of access gives the same frames, and bad input one clear error."""

from __future__ import annotations

import struct
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.video import FileVideo, FolderVideo, MemoryVideo, natural_order, open_video
from util.errors import InputError

COUNT, HEIGHT, WIDTH = 40, 32, 48


def picture(index: int) -> np.ndarray:
    """A frame known again after compression: its number in blocks of grey, the most significant bit first."""
    bits = [index >> place & 1 for place in range(5, -1, -1)]
    blocks = np.array(bits, np.uint8).reshape(2, 3) * 200 + 20
    return np.kron(blocks, np.ones((16, 16), np.uint8))[..., None].repeat(3, -1)


def number(frame: np.ndarray) -> int:
    return int("".join(str(int(bit)) for bit in (frame[8::16, 8::16, 0] > 120).ravel()), 2)


def write_video(path: Path, codec: str = "libx264", stamps: list[int] | None = None, **options: str) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 12
        stream.codec_context.time_base = Fraction(1, 100)
        for index in range(COUNT):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = (stamps[index] if stamps else 4 * index), Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def video_file(tmp_path_factory) -> Path:
    pytest.importorskip("av")
    return write_video(tmp_path_factory.mktemp("video") / "numbered.mp4", bf="3")


ORDERS = {
    "forward": range(COUNT),
    "backward": range(COUNT - 1, -1, -1),
    "random": np.random.default_rng(0).integers(0, COUNT, 60).tolist(),
    "again": [7, 7, 8, 7, 39, 39, 0, 0, 38],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("held", [96 << 20, 1])
def test_any_order_gives_the_frame_asked_for(video_file: Path, order: str, held: int, monkeypatch) -> None:
    monkeypatch.setattr("datasets.video_file.HELD_BYTES", held)
    video = open_video(video_file)
    assert (len(video), video.size, video.fps) == (COUNT, (HEIGHT, WIDTH), 25.0)
    assert [number(video[index]) for index in ORDERS[order]] == list(ORDERS[order])
    assert video[0].dtype == np.uint8 and video[0].shape == (HEIGHT, WIDTH, 3)


def test_negative_index_and_end(video_file: Path) -> None:
    video = open_video(video_file)
    assert number(video[-1]) == COUNT - 1
    for outside in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError):
            video[outside]
    assert [number(frame) for frame in video] == list(range(COUNT))


def test_held_frames_are_bounded(video_file: Path, monkeypatch) -> None:
    monkeypatch.setattr("datasets.video_file.HELD_BYTES", 5 * 2 * HEIGHT * WIDTH)
    video = FileVideo(video_file)
    for frame in range(COUNT):
        video[frame]
        assert len(video._reader._held) <= 5


def test_variable_frame_rate(tmp_path: Path) -> None:
    pytest.importorskip("av")
    stamps = np.cumsum(np.random.default_rng(1).integers(1, 30, COUNT)).tolist()
    video = open_video(write_video(tmp_path / "variable.mkv", stamps=stamps))
    assert [number(video[i]) for i in (30, 3, 39, 17, 0, 16)] == [30, 3, 39, 17, 0, 16]
    assert video.fps == pytest.approx((COUNT - 1) * 100 / (stamps[-1] - stamps[0]), rel=0.01)


def test_a_format_without_time_stamps(tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = open_video(write_video(tmp_path / "raw.h264", bf="0"))
    assert [number(video[i]) for i in (30, 3, 39, 17, 0, 16)] == [30, 3, 39, 17, 0, 16]


def test_opencv_reads_the_same_frames_where_av_is_absent(video_file: Path, monkeypatch) -> None:
    with_av = open_video(video_file)
    monkeypatch.setitem(sys.modules, "av", None)
    video = open_video(video_file)
    assert type(video._reader) is not type(with_av._reader)
    assert (len(video), video.size, video.fps) == (COUNT, (HEIGHT, WIDTH), 25.0)
    for index in (5, 5, 30, 2, 39):
        assert number(video[index]) == index


@pytest.mark.parametrize("matrix, turns", [((0, 1, 0, -1, 0), 3), ((-1, 0, 0, 0, -1), 2), ((0, -1, 0, 1, 0), 1)])
def test_a_telephones_rotation_is_applied(
    video_file: Path, tmp_path: Path, matrix: tuple[int, ...], turns: int, monkeypatch
) -> None:
    """The display matrix a b u / c d v / x y w of the track header, patched in; OpenCV's own turning is the witness."""
    a, b, u, c, d = (value << 16 for value in matrix)
    data = bytearray(video_file.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    data[start : start + 36] = struct.pack(">9i", a, b, u, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    frame = open_video(tmp_path / "turned.mp4")[9]
    assert number(np.rot90(frame, -turns)) == 9
    monkeypatch.setitem(sys.modules, "av", None)
    witness = open_video(tmp_path / "turned.mp4")[9]
    assert witness.shape == frame.shape and np.abs(witness.astype(int) - frame).mean() < 2


def test_truncated_file_is_refused(video_file: Path, tmp_path: Path) -> None:
    import av

    with (
        av.open(str(video_file)) as container,
        av.open(str(tmp_path / "index_first.mp4"), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    whole = (tmp_path / "index_first.mp4").read_bytes()
    for name, data in {"tail.mp4": whole[: len(whole) * 2 // 3], "head.mp4": whole[:200], "none.mp4": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name):
            open_video(tmp_path / name)


@pytest.mark.parametrize("without_av", [False, True])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, without_av: bool, monkeypatch) -> None:
    if without_av:
        monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "notes.mp4").write_text("not a video")
    with pytest.raises(InputError, match=r"cannot read .*notes\.mp4"):
        open_video(tmp_path / "notes.mp4")


# ---- folders and images


def write_frames(folder: Path, names: list[str], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        digits = int("".join(filter(str.isdigit, name)))
        Image.fromarray(picture(digits)).resize(size).save(folder / name)
    return folder


def test_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    write_frames(tmp_path / "f", ["frame10.png", "frame9.png", "frame1.png", "frame2.JPG"])
    (tmp_path / "f" / "notes.txt").write_text("not a frame")
    (tmp_path / "f" / "._frame1.png").write_bytes(b"what macOS leaves behind")
    video = open_video(tmp_path / "f", fps=12)
    assert video.names == ("frame1", "frame2", "frame9", "frame10")
    assert [number(frame) for frame in video] == [1, 2, 9, 10]
    assert (video.fps, video.size) == (12, (HEIGHT, WIDTH))


def test_natural_order_takes_any_name() -> None:
    names = ["b", "a10", "a9", "10", "9", "a", "a09b"]
    assert sorted(names, key=natural_order) == ["a", "a9", "a09b", "a10", "b", "9", "10"]


def test_single_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    folder = write_frames(tmp_path, ["7.png"])
    video = open_video(folder / "7.png")
    assert len(video) == 1 and number(video[0]) == 7


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_every_image_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    name = "0.tif" if mode == "CMYK" else "0.png"
    Image.fromarray(picture(21)).convert(mode).save(tmp_path / name)
    frame = open_video(tmp_path / name)[0]
    assert frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8 and number(frame) == 21


def test_sideways_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(5)).save(tmp_path / "0.jpg", exif=exif)
    video = open_video(tmp_path / "0.jpg")
    assert video.size == (WIDTH, HEIGHT) == video[0].shape[:2]
    assert number(np.rot90(video[0])) == 5


def test_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        open_video(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no frames in"):
        open_video(tmp_path / "empty")
    mixed = write_frames(tmp_path / "mixed", ["0.png", "1.png"])
    write_frames(mixed, ["2.png"], (50, 32))
    with pytest.raises(InputError, match=r"2\.png is 50x32 pixels, but 0\.png is 48x32"):
        open_video(mixed)
    (mixed / "2.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"cannot read .*2\.png"):
        open_video(mixed)


def test_frames_are_checked_when_they_are_read_too(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", ["0.png", "1.png"])
    write_frames(folder, ["2.png"], (50, 32))
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    video = FolderVideo([folder / f"{i}.png" for i in range(4)], fps=6)
    assert number(video[0]) == 0
    for index, message in ((1, "cannot read"), (2, "is 50x32 pixels"), (3, "missing frame")):
        with pytest.raises(InputError, match=message):
            video[index]


# ---- memory


def test_memory_video() -> None:
    frames = np.stack([picture(i) for i in range(3)])
    video = MemoryVideo(list(frames), fps=5)
    assert (len(video), video.size, video.fps, video.names) == (3, (HEIGHT, WIDTH), 5.0, ("00000", "00001", "00002"))
    assert np.array_equal(video[2], frames[2])
    for bad in ([], [frames[0], frames[1, :5]], frames.astype(float), frames[..., 0]):
        with pytest.raises(InputError):
            MemoryVideo(bad, fps=5)


# ---- real files


@pytest.mark.parametrize("name", ["01_dog.mp4", "02_cups.mp4"])
def test_real_videos_walked_backwards(samples: Path, name: str) -> None:
    import av

    with av.open(str(samples / "real_videos" / name)) as container:
        decoded = islice(container.decode(video=0), 60)
        expected = [frame.to_ndarray(format="rgb24")[::40, ::40] for frame in decoded]
    video = open_video(samples / "real_videos" / name)
    assert video.size == (720, 1280) and video.fps == pytest.approx(29.97, abs=0.01)
    for index in (59, 58, 57, 20, 40):
        assert np.array_equal(video[index][::40, ::40], expected[index])
