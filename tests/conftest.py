"""What all tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Bitwise comparisons hold for a fixed number of threads, and tests run in parallel processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
