"""Joining the segments of a painted film into one file, with the sound and the subtitles of the original."""

import heapq
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from ..errors import FilmError, OptionError
from ..files import beside, move
from ..image.source import one_line, printable
from .codecs import FORMATS, Target
from .encode import OFFSET, palette_frame
from .film import Description
from .pictures import write_times
from .segments import PartsFolder, Segment

COPIED = ("audio", "subtitle")
"""The kinds of streams that are copied."""
CENTISECONDS, MILLISECONDS = Fraction(1, 100), Fraction(1, 1000)
OF_THE_FILE = ("encoder", "major_brand", "minor_version", "compatible_brands")
"""Metadata of the original's file rather than of the film."""
WEBP_ALPHA = 0x10
"""Flag of a WebP file with alpha."""
BITEXACT = {"fflags": "+bitexact"}
"""Leave out random numbers and dates, so that a film painted again is the same file."""


def copied_streams(container: InputContainer) -> list[Any]:
    """Return the streams of a film that are copied: sound and subtitles."""
    return [s for s in container.streams if s.type in COPIED and s.codec_context is not None]


def check_streams(source: Path, target: Target) -> None:
    """Raise OptionError if the target's format cannot hold a stream of the film that is to be copied."""
    if not target.sound or source.is_dir():
        return
    try:
        container = av.open(str(source), metadata_errors="replace")
    except FFmpegError:
        return  # an animated picture, which has no sound
    with container:
        streams = copied_streams(container)
        missing = next((s for s in streams if not _holds(target.format.name, s)), None)
        if missing is None:
            return
        able = [k for k, f in FORMATS.items() if f.codecs and all(_holds(f.name, s) for s in streams)]
        what, name = "sound" if missing.type == "audio" else "subtitles", missing.codec_context.name
        advice = f"choose {' or '.join(able)}" if able else "convert the film to .mkv first"
        path, suffix = printable(str(target.path)), target.path.suffix
        raise OptionError(f"--out {path}: {suffix} cannot hold the film's {what} ({name}); {advice}")


def _holds(format_name: str, stream: Any) -> bool:
    """Return whether a format can hold a stream without encoding it again."""
    with av.open(os.devnull, "w", format=format_name) as out:
        try:
            out.add_stream_from_template(stream)
        except (FFmpegError, ValueError):
            return False
    return True


def join(
    parts: PartsFolder, target: Target, source: Path, about: Description, cut: tuple[float | None, float | None]
) -> None:
    """Write the painted film from its finished segments. The file is written completely or not at all.

    Parameters
    ----------
    parts : PartsFolder
        The segments.
    target : Target
        Where and how to write.
    source : Path
        The original, whose sound and subtitles are copied packet by packet.
    about : Description
        What is known of the film.
    cut : (float or None, float or None)
        Beginning and end of the painted part, in seconds from the first frame.

    Raises
    ------
    FilmError
        If the file cannot be written.
    """
    times = [t for s in parts.segments for t in s.times]
    durations = _durations(parts.segments, about)
    shift = 0 if cut[0] is None else times[0]
    place = target.place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if target.frames:
            names = [target.path.name % (i + 1) for i in range(len(times))]
            write_times(parts.frames, names, [float((t - shift) * about.time_base) for t in times])
            if place.exists():
                place.rmdir()
            os.replace(parts.frames, place)
            return
        temporary = beside(place)
        try:
            if target.sound:
                _write_film(temporary, parts, target, source, about, cut, [t - shift for t in times], durations, shift)
            else:
                _write_animation(temporary, parts, target, about, [t - shift for t in times], durations)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            move(temporary, place)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except (FFmpegError, OSError) as error:
        name = printable(str(place))
        raise FilmError(f"{name} cannot be written ({one_line(error)}); choose another place or format") from error


def _durations(segments: Sequence[Segment], about: Description) -> list[int]:
    """Return how long each frame is shown: until the next one, and the last one as the film says."""
    times = [t for s in segments for t in s.times]
    last = segments[-1].durations[-1] or round(1 / (about.rate * about.time_base)) or 1
    return [b - a for a, b in pairwise(times)] + [last]


def _write_film(
    path: Path,
    parts: PartsFolder,
    target: Target,
    source: Path,
    about: Description,
    cut: tuple[float | None, float | None],
    times: Sequence[int],
    durations: Sequence[int],
    shift: int,
) -> None:
    options = dict(BITEXACT)
    if target.format.name in ("mp4", "mov"):
        options["movflags"] = "+faststart"
    with ExitStack() as stack:
        original = None
        with suppress(FFmpegError, OSError):
            original = stack.enter_context(av.open(str(source), metadata_errors="replace"))
        out = stack.enter_context(av.open(str(path), "w", format=target.format.name, options=options))
        first = stack.enter_context(av.open(str(parts.file(0))))
        template = first.streams.video[0]
        stream = out.add_stream_from_template(template, opaque=True)  # decoders' names may differ from encoders'
        if template.metadata.get("alpha_mode") == "1":
            stream.pix_fmt = "yuva420p"  # alpha is beside the packets, so the template does not know of it
        stream.time_base = about.time_base
        if target.codec is not None and target.codec.tag and target.format.name in ("mp4", "mov"):
            stream.codec_context.codec_tag = target.codec.tag
        by_decoding_times = target.format.name in ("mp4", "mov")  # where a duration is the step to the next one
        packets = [_pictures(parts, stream, about, times, durations, by_decoding_times)]
        if original is not None:
            out.metadata.update({k: v for k, v in original.metadata.items() if k not in OF_THE_FILE})
            if not any(cut):
                _copy_chapters(original, out)
            copies = {s.index: out.add_stream_from_template(s) for s in copied_streams(original)}
            for index, copy in copies.items():
                copy.metadata.update(original.streams[index].metadata)
                copy.disposition = original.streams[index].disposition
            if copies:
                begin = float(shift * about.time_base) if cut[0] is not None else None
                length = float((times[-1] + durations[-1]) * about.time_base) if any(cut) else None
                packets.append(_sound(original, copies, begin, length))
        for _, packet in heapq.merge(*packets, key=lambda item: item[0]):
            out.mux_one(packet)


def _pictures(
    parts: PartsFolder,
    stream: VideoStream,
    about: Description,
    times: Sequence[int],
    durations: Sequence[int],
    by_decoding_times: bool,
) -> Iterator[tuple[float, Any]]:
    """Yield the packets of all segments with their exact times, each with its decoding time in seconds."""
    order = list(_frame_numbers(parts))
    delay = max(place - number for place, number in enumerate(order))  # a frame is decoded when it is shown, or before
    delay = max(0, delay)
    step = min(durations)
    for place, packet in enumerate(_segment_packets(parts)):
        number = order[place]
        dts = times[place - delay] if place >= delay else times[0] - (delay - place) * step
        packet.pts, packet.dts, packet.duration = times[number], dts, durations[number]
        if place == len(order) - 1 and by_decoding_times:  # these steps add up: make them the film's length
            packet.duration = max(1, times[-1] + durations[-1] - delay * step - dts)
        packet.time_base, packet.stream = about.time_base, stream
        yield float(dts * about.time_base), packet


def _segment_packets(parts: PartsFolder) -> Iterator[Any]:
    """Yield the packets of all segments, in the order of decoding."""
    for index, _ in enumerate(parts.segments):
        with av.open(str(parts.file(index))) as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.size:
                    yield packet


def _frame_numbers(parts: PartsFolder) -> Iterator[int]:
    """Yield the numbers of the frames in the order of decoding."""
    first = 0
    for index, segment in enumerate(parts.segments):
        with av.open(str(parts.file(index))) as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.size:
                    assert packet.pts is not None and packet.time_base is not None
                    yield first + round(packet.pts * packet.time_base * 1000) - OFFSET
        first += len(segment.times)


def _sound(
    original: InputContainer, copies: dict[int, Any], begin: float | None, length: float | None
) -> Iterator[tuple[float, Any]]:
    """Yield the packets of the copied streams, each with its decoding time in seconds."""
    if begin is not None:
        original.seek(round(begin * av.time_base))
    clock = 0.0
    for packet in original.demux([original.streams[i] for i in copies]):
        if not packet.size:
            continue
        base, shown = packet.time_base, packet.pts if packet.pts is not None else packet.dts
        if begin is not None or length is not None:
            if shown is None:
                continue
            seconds = float(shown * base) - (begin or 0.0)
            if seconds < 0 or (length is not None and seconds >= length):
                continue
            back = round((begin or 0.0) / base)
            packet.pts = None if packet.pts is None else packet.pts - back
            packet.dts = None if packet.dts is None else packet.dts - back
        packet.stream = copies[packet.stream.index]
        clock = clock if packet.dts is None else float(packet.dts * base)
        yield clock, packet


def _copy_chapters(original: InputContainer, out: OutputContainer) -> None:
    chapters = original.chapters()
    if chapters:
        out.set_chapters(chapters)


def _write_animation(
    path: Path,
    parts: PartsFolder,
    target: Target,
    about: Description,
    times: Sequence[int],
    durations: Sequence[int],
) -> None:
    gif = target.format.name == "gif"
    base = CENTISECONDS if gif else MILLISECONDS
    ends = [round((t + d) * about.time_base / base) for t, d in zip(times, durations, strict=True)]
    last = max(1, ends[-1] - round(times[-1] * about.time_base / base))
    options = {**BITEXACT, **({"final_delay": str(last), "loop": "0"} if gif else {"loop": "0"})}
    with av.open(str(path), "w", format=target.format.name, options=options) as out:
        kind = {} if gif else {"options": {"quality": "85", "lossless": "0"}}
        stream = out.add_stream("gif" if gif else "libwebp_anim", rate=about.rate, **kind)
        assert isinstance(stream, VideoStream)
        stream.codec_context.time_base = base
        before = -1
        number = 0
        for index, _ in enumerate(parts.segments):
            with av.open(str(parts.file(index))) as container:
                for frame in container.decode(container.streams.video[0]):
                    alpha = frame.format.name == "bgra"
                    pixels = frame.to_ndarray(format="rgba" if alpha else "rgb24")
                    if not number:
                        stream.height, stream.width = pixels.shape[:2]
                        stream.pix_fmt = "pal8" if gif else "bgra"
                    shown = palette_frame(pixels) if gif else frame.reformat(format="bgra")
                    time = max(before + 1, round(times[number] * about.time_base / base))
                    shown.pts, shown.time_base, shown.duration = time, base, max(1, ends[number] - time)
                    before = time
                    number += 1
                    out.mux(stream.encode(shown))
        out.mux(stream.encode())
    if not gif:
        _amend_webp(path, last, about.alpha)


def _amend_webp(path: Path, milliseconds: int, alpha: bool) -> None:
    """Set how long the last frame of an animated WebP is shown, and whether there is alpha.

    The encoder takes the mean duration of the others, and no alpha where the transparent parts are only left out.
    """
    with path.open("r+b") as file:
        place, found, end = 12, 0, path.stat().st_size
        while place + 8 <= end:
            file.seek(place)
            kind, length = file.read(4), int.from_bytes(file.read(4), "little")
            found = place if kind == b"ANMF" else found
            place += 8 + length + length % 2
        file.seek(12)
        if alpha and file.read(4) == b"VP8X":
            file.seek(20)
            flags = file.read(1)[0]
            file.seek(20)
            file.write(bytes([flags | WEBP_ALPHA]))
        if found:
            file.seek(found + 8 + 12)  # after the header, and the frame's place and size
            file.write(min(milliseconds, 2**24 - 1).to_bytes(3, "little"))


def frame_folder_is_free(path: Path) -> bool:
    """Return whether a folder of frames can be written: it does not exist, or is empty."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))
