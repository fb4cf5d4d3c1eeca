"""The ten sounding classes of a world: shape, texture, hue, timbre and pitch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SoundingClass:
    """A class; shape, texture and timbre are keys of SHAPES, TEXTURES and TIMBRES."""

    name: str
    shape: str
    texture: str
    hue: float  # 0 to 1, as in HSV
    timbre: str
    base_hz: float  # its pitch, or the centre of its noise, at mid-height

    @property
    def mid(self) -> str:
        """An identifier in the form of AudioSet's; none of AudioSet's own has this prefix."""
        return f"/m/world_{self.name}"


CLASSES = (
    SoundingClass("bell", "disc", "rings", 0.13, "strikes", 520),
    SoundingClass("siren", "triangle", "plain", 0.00, "sweep", 600),
    SoundingClass("harp", "diamond", "stripes", 0.36, "plucks", 330),
    SoundingClass("maraca", "cross", "plain", 0.06, "shakes", 3200),
    SoundingClass("bee", "hexagon", "stripes", 0.16, "buzz", 120),
    SoundingClass("bird", "star", "plain", 0.50, "chirps", 2600),
    SoundingClass("woodpecker", "square", "checker", 0.08, "clicks", 1300),
    SoundingClass("flute", "ring", "plain", 0.92, "breath", 700),
    SoundingClass("drum", "square", "dot", 0.77, "thumps", 110),
    SoundingClass("clarinet", "half_disc", "plain", 0.61, "reed", 230),
)

# Values of a mask's pixels.
BACKGROUND_ID = 0
CLASS_IDS = {sounding.name: index + 1 for index, sounding in enumerate(CLASSES)}
MUTE_ID = 255
