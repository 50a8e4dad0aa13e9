"""Against torch's own affine_grid."""

import pytest
import torch

from flowvqtalker.resample import affine_grid


@pytest.mark.parametrize(("height", "width"), [(5, 5), (4, 9), (1, 3)])
def test_equals_torch(height, width):
    matrix = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.nn.functional.affine_grid(matrix, [3, 1, height, width], align_corners=False)
    torch.testing.assert_close(affine_grid(matrix, height, width), expected, atol=1e-12, rtol=0)


def test_gradients_reach_the_matrix():
    matrix = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: affine_grid(m, 3, 4), (matrix,))
