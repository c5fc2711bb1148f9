"""Write a table to data/patients.csv: 442 patients with diabetes, from scikit-learn."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes

x, progress = load_diabetes(return_X_y=True, scaled=False)
table = np.column_stack([x[:, [0, 1, 2, 3, 9]], progress])
Path("data").mkdir(exist_ok=True)
np.savetxt("data/patients.csv", table, "%g", ",", header="age,sex,bmi,pressure,glucose,progress", comments="")
