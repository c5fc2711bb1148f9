"""Write signals to data/swings.npz: 2,000 swings that die away, with position and speed as channels of 64 steps."""

from pathlib import Path

import numpy as np

random = np.random.RandomState(0)
t = np.linspace(0, 4, 64)
height, damping, frequency, phase = (random.uniform(*ends, (2000, 1)) for ends in ((5, 20), (0.3, 1), (4, 8), (0, 6.28)))
angle, envelope = frequency * t + phase, height * np.exp(-damping * t)
position = envelope * np.cos(angle)
speed = -envelope * (damping * np.cos(angle) + frequency * np.sin(angle))
x = np.stack([position, speed], 1)  # (2000, 2, 64)
Path("data").mkdir(exist_ok=True)
np.savez("data/swings.npz", x=x.astype(np.float32), channel_names=["position, mm", "speed, mm/s"])
