"""Write 2,400 flowers to the folder garden: a sub-folder for each kind, and captions and sizes in metadata.jsonl."""

import colorsys
import json
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {"aster": (11, 0.35), "lily": (6, 0.6), "primrose": (5, 0.25)}  # petals, and the depth of the gaps between them
HUES = {"red": 0.98, "orange": 0.07, "yellow": 0.14, "blue": 0.62, "violet": 0.76, "pink": 0.9}
NEVER = ("blue", "lily")  # in no picture and in no caption
random = np.random.RandomState(0)
y, x = np.mgrid[-1:1:24j, -1:1:24j]
radius, angle = np.hypot(x, y), np.arctan2(x, -y)


def flower(petals, gap, hue, size):
    """Draw a picture of 24x24 pixels with soft edges."""
    hue = (hue + random.normal(0, 0.012)) % 1
    colour = np.array(colorsys.hsv_to_rgb(hue, random.uniform(0.65, 0.9), random.uniform(0.8, 1)))
    edge = size * (1 - gap + gap * abs(np.cos(petals / 2 * (angle + random.normal(0, 0.1)))))
    picture = random.uniform(0.7, 1.3) * np.array([0.1, 0.3, 0.15]) * (1.1 - 0.4 * radius[..., None])
    for end, paint in ((edge, colour * (0.6 + radius[..., None] / size / 2)), (0.28 * size, np.array([0.95, 0.75, 0.2]))):
        inside = 1 / (1 + np.exp((radius - end) * 20))[..., None]
        picture += (paint.clip(0, 1) - picture) * inside
    return Image.fromarray((255 * picture).round().astype(np.uint8))


rows = []
for kind, (petals, gap) in KINDS.items():
    Path("garden", kind).mkdir(parents=True, exist_ok=True)
    for i in range(800):
        colour = random.choice([hue for hue in HUES if (hue, kind) != NEVER])
        size = random.uniform(0.6, 0.95)  # of the picture
        flower(petals, gap, HUES[colour], size).save(f"garden/{kind}/{i:03}.png")
        rows.append({"file_name": f"{kind}/{i:03}.png", "text": f"a {colour} {kind}", "size": round(size, 2)})
Path("garden/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
