"""The active channels of one example: their maps, masks and order."""

from __future__ import annotations

from torch import Tensor

INFLATED_BELOW = 128
"""Active channels of an example below which its squared error is inflated."""
ERROR_INFLATION = 2.25
"""How much larger the squared error of a map of fewer channels is taken to be.

A few of a few channels, or a few samples, say less of the others than of many. On 200
layers of 4 to 64 channels and scores made up at random the error of the map was above
delta for 1 to 10 % of the maps under named rules of IS-CAM, and for 2 to 12 % under
SS-CAM of five samples or more. With delta 1.5 times as large, which is the cost, it is
for 1 to 8 % and, with infinity for scatters above the map, for 1 to 8 %."""


class ExampleChannels:
    """The active channels of one example, on the CPU in double precision.

    Args:
        number (int): Which example of the batch.
        rows (Tensor): Their rows of `Channels.active`, `(P,)`.
        channels (Tensor): Which channels they are, `(P,)`.
        maps (Tensor): `A` of all channels, `(K, positions)`; never copied as a whole
            for longer than a property takes.

    Attributes:
        order (Tensor): The channels by importance, `mean(m_k) ||A_k||`: how much of
            the input a mask shows times how much the channel adds to the map. The
            largest come first.
    """

    def __init__(
        self,
        number: int,
        rows: Tensor,
        channels: Tensor,
        maps: Tensor,
    ) -> None:
        self.number = number
        self.rows = rows
        self._channels = channels
        self._maps = maps
        importance = self.masks.mean(1) * self.maps.norm(dim=1)
        self.order: Tensor = importance.argsort(descending=True, stable=True)

    @property
    def maps(self) -> Tensor:
        """`A` of the active channels, `(P, positions)`."""
        return self._maps[self._channels].double()

    @property
    def masks(self) -> Tensor:
        """Each of them scaled to [0, 1], `(P, positions)`."""
        maps = self.maps
        low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
        return maps.sub_(low).div_(high - low)

    @property
    def inflation(self) -> float:
        """What an estimated squared error is multiplied by."""
        return ERROR_INFLATION if len(self.rows) < INFLATED_BELOW else 1.0

    def squared_norm(self, weights: Tensor) -> Tensor:
        """Returns `||sum_k a_k A_k||^2`, `(T,)`, for weights `(P, T)`."""
        return (weights.T @ self.maps).square().sum(1)
