"""A network that fuzzing draws: tiny, of any rank, with numbers that add up exactly."""

import torch
from reference.networks import CONVOLUTION
from torch import nn

ACTIVATIONS = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "leaky": lambda: nn.LeakyReLU(0.25),
}
VECTOR = 4


class SmallNetwork(nn.Module):
    """Three steps, `stem`, `act` and `mix`, and a head that pools and weighs.

    Weights are few bits each, so that a channel that is constant in theory is so in
    floating point numbers too, in whatever order they are added.

    Args:
        spatial (int): Spatial dimensions of the input.
        width (int): Channels of each step; the last of several is constant.
        form (str): "classes" `(N, classes)`, "grid" `(N, 2, classes)`, "one" `(N, 1)`
            or "flat" `(N,)`.
    """

    def __init__(
        self, spatial, channels, width, kernel, stride, activation, classes, form, seed
    ):
        super().__init__()
        outputs = {"classes": classes, "grid": 2 * classes}.get(form, 1)
        conv = CONVOLUTION[spatial]
        self.form, self.classes = form, classes
        self.stem = conv(channels, width, kernel, stride=stride, padding=kernel // 2)
        self.act = ACTIVATIONS[activation]()
        self.mix = conv(width, width, 1)
        self.head = nn.Linear(width, outputs)
        self.vector = nn.Linear(VECTOR, outputs)
        self.unused = conv(channels, width, 1)
        self._settle(torch.Generator().manual_seed(seed))
        self.eval()

    def _settle(self, generator):
        with torch.no_grad():
            for parameter in self.parameters():
                shape = parameter.shape
                bits = torch.randint(-16, 17, shape, generator=generator) / 16
                parameter.copy_(bits / 2 ** (max(parameter[0].numel(), 1) // 9))
            if len(self.stem.weight) > 1:
                self.stem.weight[-1] = 0

    def after(self, depth, x):
        """What the first `depth` steps make of the input."""
        for step in (self.stem, self.act, self.mix)[:depth]:
            x = step(x)
        return x

    def finish(self, maps, depth, vector=None, scale=None):
        """What the steps after `depth`, and the head, make of maps."""
        for step in (self.stem, self.act, self.mix)[depth:]:
            maps = step(maps)
        places = maps.flatten(2)
        out = self.head(places.amax(2) + places.mean(2))
        if vector is not None:
            out = out + self.vector(vector)
        if scale is not None:
            out = out * scale.unsqueeze(1)
        if self.form == "grid":
            return out.view(-1, 2, self.classes)
        return out.squeeze(1) if self.form == "flat" else out

    def forward(self, x, *further):
        return self.finish(self.after(0, x), 0, *further)


class WithVector(nn.Module):
    """The network with a second input; it takes the vector before the scale."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, vector, scale=None):
        return self.net(x, vector, scale)


class WithScale(nn.Module):
    """The network with a further argument alone."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, scale):
        return self.net(x, None, scale)
