"""`cavsync localize`: where in the pictures of a video a sound comes from, its own or another; and whether from anything there.

The video is cut as by `cavsync embed`: each window has the picture in its middle, and is asked for the sound around it,
or for that window of a given sound which it is most like. Axis words: W windows, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.windows import SlidingWindows, Window
from cavsync.pipeline.media.probe import duration_s
from cavsync.train.embedding.embedder import Embedder, OnSecond, verdict_on
from cavsync.train.embedding.encode import require_finite
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.choices import MapMethod
from cavsync.train.evaluation.heatmaps.audio_prompt import PromptReader
from cavsync.train.evaluation.heatmaps.heatmap import AudioFeatures, HeatmapModel, MapConfig
from cavsync.train.inference.calibration import ERRORS, Calibration

# Of a sound that is asked for, its beginning: about a clip of the datasets.
LONGEST_SOUND_S = 10.5

Verdict = Literal["found", "nothing", "cannot tell"]


@dataclass(frozen=True)
class Localized:
    """What was found in a video; times are seconds from its start, NaN stands where picture or sound is missing."""

    video: Path
    sound: Path | None  # None: its own
    weights: Path
    map: MapConfig
    start_s: np.ndarray  # (W,)
    end_s: np.ndarray  # (W,)
    frame_s: np.ndarray  # (W,)
    pictures: tuple[bytes | None, ...]  # W JPEGs, as the model sees them
    maps: dict[MapMethod, np.ndarray]  # (W, rows, columns)
    likeness: np.ndarray  # (W,) cosine of picture and sound
    calibration: Calibration | None
    duration_s: float
    state: ClipState  # of the video
    reason: str | None

    @property
    def asked(self) -> np.ndarray:
        """(W,) bool: there are both a picture and a sound."""
        known: np.ndarray = np.isfinite(self.likeness)
        return known

    @property
    def passes(self) -> np.ndarray:
        """(W,) bool: the sound may come from the picture; of what was asked, all where nothing was calibrated."""
        if self.calibration is None:
            return self.asked
        alike: np.ndarray = self.asked & (self.likeness >= self.calibration.threshold)
        return alike

    @property
    def share(self) -> float:
        """Of the windows that were asked, those that pass."""
        return float(self.passes.sum() / self.asked.sum())

    @property
    def verdict(self) -> Verdict:
        if self.calibration is None or not self.calibration.tells:
            return "cannot tell"
        return "found" if self.share > self.calibration.limit else "nothing"

    @cached_property
    def sentence(self) -> str:
        """For people: the verdict and what it rests on."""
        if self.calibration is None:
            return (
                "Cannot tell whether anything here sounds like this: nothing to calibrate by. Give --calibrate a prepared "
                "dataset, or a file of `cavsync embed`."
            )
        counted = f"{self.passes.sum()} of {self.asked.sum()} windows pass"
        foreign = f"{1 - ERRORS:.0%} of foreign sounds pass in no more than {self.calibration.limit:.0%}"
        if not self.calibration.tells:
            return f"Cannot tell whether anything here sounds like this: {counted}, but {foreign}."
        if self.verdict == "found":
            return f"Something here sounds like this: {counted}; {foreign}."
        return f"Nothing here sounds like this: {counted}; {foreign}."


def localize(
    embedder: Embedder,
    video: Path,
    sound: Path | None,
    methods: Sequence[MapMethod],
    config: MapConfig,
    calibration: Calibration | None,
    on_second: OnSecond = lambda done, total: None,
) -> Localized:
    """Maps of every window. Raises EvaluationError for a video, or a sound, in which nothing can be asked."""
    with DecoderProcess() as decoder:
        asked = None if sound is None else read_sounds(embedder, sound, decoder)
        localizer = _Localizer(embedder, config, tuple(dict.fromkeys(methods)), asked)
        sweep = embedder.sweep(video, decoder)
        try:
            for windows in sweep:
                localizer.add(windows)
                on_second(round(windows[-1].end_s), round(max(sweep.file_s, windows[-1].end_s)))
        except MediaError as error:
            raise EvaluationError(f"{video} cannot be used: {error}.") from error
    localizer.require_anything(video)
    windows = localizer.windows
    state, reason = verdict_on(windows, sweep)
    frames_s = [np.nan if window.frame_s is None else window.frame_s for window in windows]
    return Localized(
        video=video,
        sound=sound,
        weights=embedder.checkpoint.weights,
        map=config,
        start_s=np.array([window.start_s for window in windows]),
        end_s=np.array([window.end_s for window in windows]),
        frame_s=np.array(frames_s, np.float64),
        pictures=tuple(window.picture for window in windows),
        maps={method: np.stack(cells) for method, cells in localizer.maps.items()},
        likeness=np.concatenate(localizer.likeness),
        calibration=None if calibration is None else replace(calibration, num_sounds=len(asked or [None])),
        duration_s=max(sweep.duration_s, windows[-1].end_s),
        state=state,
        reason=reason,
    )


def read_sounds(embedder: Embedder, sound: Path, decoder: DecoderProcess) -> list[Window]:
    """The windows, one after the other, of the beginning of a sound or a video; silent ones are left out.

    Raises EvaluationError where nothing is heard.
    """
    grid = replace(embedder.grid, step_rows=embedder.grid.rows)
    try:
        first = next(iter(SlidingWindows(sound, grid, decoder, duration_s(str(sound)))))
    except MediaError as error:
        raise EvaluationError(f"{sound} cannot be asked for: {error}.") from error
    heard = [window for window in first if window.mel is not None and window.end_s <= LONGEST_SOUND_S]
    heard = heard or [window for window in first[:1] if window.mel is not None]
    if not heard:
        raise EvaluationError(
            f"{sound} cannot be asked for: it has no sound, or only silence, in its first {LONGEST_SOUND_S:g} s."
        )
    return heard


class _Localizer:
    """One pass over a video's windows."""

    def __init__(
        self,
        embedder: Embedder,
        config: MapConfig,
        methods: tuple[MapMethod, ...],
        asked: list[Window] | None,
    ) -> None:
        """`asked` are the sounds that every picture is asked for; None: each its own."""
        self._embedder, self._asked = embedder, asked
        self._given = None if asked is None else embedder.encode_sounds(asked)
        checkpoint = embedder.checkpoint
        self._heatmap_model = HeatmapModel(checkpoint.model, config, checkpoint.device)
        self._reader = PromptReader(checkpoint.window, checkpoint.model.config.patch_size)
        self._unmapped = np.full(checkpoint.model.config.image_grid, np.nan, np.float32)
        self.windows: list[Window] = []
        self.maps: dict[MapMethod, list[np.ndarray]] = {method: [] for method in methods}
        self.likeness: list[np.ndarray] = []

    def add(self, windows: list[Window]) -> None:
        likeness, sounds = self._likest(windows)
        self.windows += windows
        self.likeness.append(likeness)
        for window, sound, value in zip(windows, sounds, likeness, strict=True):
            heard = self._encode_audio(sound) if np.isfinite(value) else None
            for method, maps in self.maps.items():
                maps.append(self._unmapped if heard is None else self._map(window, heard, method))

    def _likest(self, windows: list[Window]) -> tuple[np.ndarray, list[Window]]:
        """(W,) how alike each picture is to the sound that it is most like, and that sound."""
        pictures = self._embedder.encode_pictures(windows)
        if self._asked is None or self._given is None:
            return (pictures * self._embedder.encode_sounds(windows)).sum(axis=1), windows
        alike = pictures @ self._given.T
        return alike.max(axis=1), [self._asked[place] for place in alike.argmax(axis=1)]

    def require_anything(self, video: Path) -> None:
        """Raises EvaluationError where no window has both."""
        if np.isfinite(np.concatenate(self.likeness)).any():
            return
        if all(window.picture is None for window in self.windows):
            raise EvaluationError(f"{video} has no pictures: there is nothing in which to find a sound.")
        raise EvaluationError(
            f"{video} has no sound with its pictures, or only silence: there is nothing to find. Give a sound: "
            "--audio FILE."
        )

    def _encode_audio(self, sound: Window) -> AudioFeatures:
        assert sound.mel is not None
        return self._heatmap_model.encode_audio(self._reader.cut_mel(sound.mel))

    def _map(self, window: Window, heard: AudioFeatures, method: MapMethod) -> np.ndarray:
        assert window.picture is not None
        picture = self._embedder.as_seen(window.picture)
        cells = self._heatmap_model.encode_image(picture, method).heatmap(heard).cells
        require_finite(cells, f"the picture at {window.frame_s:.2f} s")
        values: np.ndarray = cells.float().numpy()
        return values


def spans_s(localized: Localized) -> list[tuple[float, float]]:
    """Where windows pass, those that touch taken together."""
    spans: list[tuple[float, float]] = []
    for start_s, end_s in zip(
        localized.start_s[localized.passes], localized.end_s[localized.passes], strict=True
    ):
        if spans and start_s <= spans[-1][1]:
            spans[-1] = (spans[-1][0], float(end_s))
        else:
            spans.append((float(start_s), float(end_s)))
    return spans
