"""How long `cavsync data duplicates` searches, and what it holds, as datasets grow; fingerprints are made up.

    python -m benchmarks.duplicates rate [--largest N]

A clip has 45 onsets and 16 frames with random codes, as real ones nearly are (distances of 32 +- 4 bits). One clip in a hundred is a copy
of another: moved by 1.5 s, 5 bits of each onset flipped, noise on its frames. One in fifty has a jingle that all of these share.
The last row has the key length of two million clips, where fewer codes meet.
"""

from functools import partial

import numpy as np

from benchmarks.support import results, timing
from cavsync.pipeline.duplicates.fingerprints import Fingerprints
from cavsync.pipeline.duplicates.search import SearchConfig, find_pairs

NUM_ONSETS, NUM_FRAMES, LENGTH_S = 45, 16, 10.0
SMALLEST = 12_500
COPIES_EVERY, JINGLES_EVERY = 100, 50
MOVED_S, FLIPPED_BITS, NOISE_LEVELS = 1.5, 5, 3.0
KEY_BITS_OF_TWO_MILLION = 29


def main(largest: int = 100_000) -> None:
    rows: list[results.Row] = []
    size, before = SMALLEST, None
    while size <= largest:
        cost, recall = timing.result_in_own_process(partial(search, size, None))
        ratio = cost.cpu_s / before if before else None
        rows.append(
            results.Row(
                what=f"{size:,} clips, {recall:.1%} of the copies found",
                values=[cost.cpu_s],
                unit="s CPU",
                ratio=ratio,
                to="half as many",
                peak_mib=cost.peak_mib,
                aim="x 2" if ratio else "",
            )
        )
        size, before = 2 * size, cost.cpu_s
    cost, recall = timing.result_in_own_process(partial(search, SMALLEST, KEY_BITS_OF_TWO_MILLION))
    what = f"{SMALLEST:,} clips, keys of two million, {recall:.1%} found"
    rows.append(results.Row(what=what, values=[cost.cpu_s], unit="s CPU", peak_mib=cost.peak_mib))
    results.publish("duplicates", "Search for clips that are the same recording, one core", rows)


def search(num: int, key_bits: int | None) -> tuple[timing.Cost, float]:
    """The cost of the search, and the share of the copies that it found in both audio and frames."""
    clips = made_up(num)
    found = []
    cost = timing.weighed(lambda: found.append(find_pairs(clips, config=SearchConfig(num_key_bits=key_bits))))
    numbers = {key: number for number, key in enumerate(clips.keys)}
    pairs = {(numbers[p.key], numbers[p.other]) for p in found[0].pairs if p.matched == "both"}
    copies = {(number - 1, number) for number in range(COPIES_EVERY - 1, num, COPIES_EVERY)}
    wrong = len(pairs - copies)
    assert not wrong, f"{wrong} pairs are none"
    return cost, len(copies & pairs) / len(copies)


def made_up(num: int) -> Fingerprints:
    """Clip n - 1 is the original of clip n where n + 1 is a multiple of COPIES_EVERY."""
    random = np.random.default_rng(0)
    rows = np.sort(random.integers(40, 960, (num, NUM_ONSETS)), axis=1).astype(np.int32)
    codes = random.integers(0, 2**64, (num, NUM_ONSETS), np.uint64)
    jingle = random.integers(0, 2**64, 8, np.uint64)
    codes[::JINGLES_EVERY, :8] = jingle
    spectra = np.empty((num, NUM_FRAMES, 8, 8), np.float16)
    falling = 60 / (1 + np.add.outer(np.arange(8), np.arange(8)))
    for number in range(num):
        scene = random.normal(size=(8, 8))
        spectra[number] = falling * (scene + 0.5 * random.normal(size=(NUM_FRAMES, 8, 8)))
    copied = np.arange(COPIES_EVERY - 1, num, COPIES_EVERY)
    rows[copied] = rows[copied - 1] - round(100 * MOVED_S)
    codes[copied] = _flipped(random, codes[copied - 1])
    spectra[copied] = spectra[copied - 1] + random.normal(0, NOISE_LEVELS / 8, spectra[copied].shape)
    kept = (rows >= 0).ravel()
    starts = np.concatenate([[0], np.cumsum((rows >= 0).sum(1))])
    pts_s = np.tile((np.arange(NUM_FRAMES) + 0.5) * LENGTH_S / NUM_FRAMES, (num, 1))
    pts_s[copied] -= MOVED_S
    return Fingerprints(
        keys=np.array([f"clip{number:08d}" for number in range(num)]),
        splits=np.full(num, "train"),
        duration_s=np.full(num, LENGTH_S),
        onset_start=starts,
        onset_rows=rows.ravel()[kept],
        onset_codes=codes.ravel()[kept],
        frame_start=np.arange(0, num * NUM_FRAMES + 1, NUM_FRAMES),
        frame_pts_s=pts_s.ravel().astype(np.float32),
        spectra=spectra.reshape(-1, 8, 8),
    )


def _flipped(random: np.random.Generator, codes: np.ndarray) -> np.ndarray:
    for _ in range(FLIPPED_BITS):
        codes = codes ^ (np.uint64(1) << random.integers(0, 64, codes.shape, np.uint64))
    return codes
