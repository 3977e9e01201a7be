"""Linear prediction from an autocorrelation (Levinson 1947; Durbin 1960)."""

import torch


def levinson(autocorrelation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Autocorrelation (..., order + 1) -> prediction polynomial (..., order + 1), whose first coefficient is
    1, and prediction error (..., 1).
    """
    order = autocorrelation.shape[-1] - 1
    error = autocorrelation[..., :1]
    a = torch.ones_like(error)
    for i in range(1, order + 1):
        lagged = autocorrelation[..., 1 : i + 1].flip(-1)
        reflection = -(a * lagged).sum(dim=-1, keepdim=True) / error
        padded = torch.nn.functional.pad(a, (0, 1))
        a = padded + reflection * padded.flip(-1)
        error = error * (1 - reflection.square())
    return a, error
