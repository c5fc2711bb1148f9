"""Options that several commands share, with their help."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ancestral.builtin import explained

Features = Annotated[
    str | None,
    Parameter(
        help=f"Features in which distances are measured: {explained('extractor')}; or several, with commas. "
        "Default: what suits the data."
    ),
]
SPACING = f"Rule that spreads the steps over the noise levels: {explained('spacing')}. Default: logsnr."
