"""Write signals to data/weather.npz: temperature and sunlight of 3,000 days in 48 half hours, and their days of the year."""

from pathlib import Path

import numpy as np

random = np.random.RandomState(0)
n, latitude, hour = 3000, np.radians(50), np.arange(48) / 2
day = random.uniform(1, 366, n)  # of the year; midsummer is day 172
tilt = np.radians(-23.4) * np.cos(2 * np.pi * (day + 10) / 365)[:, None]
height = np.sin(latitude) * np.sin(tilt) + np.cos(latitude) * np.cos(tilt) * np.cos(2 * np.pi * (hour - 12) / 24)
sky = random.uniform(0.3, 1, (n, 1))  # 1 is a clear sky
sunlight = 1000 * sky * np.maximum(height, 0)  # of the sun above the horizon
late = np.exp(-((hour[:, None] - hour) % 24) / 4)  # the air follows the sun with a delay of four hours
warmth = sunlight @ late.T / 48
season = 10 - 9 * np.cos(2 * np.pi * (day - 20) / 365) + random.normal(0, 3, n)
temperature = season[:, None] + 0.12 * (warmth - warmth.mean(1, keepdims=True))
x = np.stack([temperature, sunlight], 1)  # (3000, 2, 48)
Path("data").mkdir(exist_ok=True)
np.savez("data/weather.npz", x=x.astype(np.float32), day=day, channel_names=["temperature, °C", "sunlight, W/m²"])
