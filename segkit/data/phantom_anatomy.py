"""One synthetic patient: brain-like anatomy, a lesion and what can be mistaken for it, in three sequences.

Everything is a field over the volume [slices, height, width] in head coordinates: x to the left, y to the
back, z to the top, each about -1 to 1. Tissues are smooth level sets of such fields, so that they continue
from slice to slice. Only elementwise arithmetic is used: the same seed gives the same bytes whatever the
number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Generator = np.random.Generator

_LOWEST, _HIGHEST = -0.6, 0.68  # z of the first and the last slice
_BRAIN, _DURA, _SKULL = 0.80, 0.85, 0.92  # share of the head's radius where each ends; scalp up to 1

# Signal of each tissue in (pre, FLAIR, post), white matter in pre about 0.7. A lesion is bright on FLAIR
# and dark on T1; each distractor shares its FLAIR signal and differs in T1, in size or in place.
_SIGNAL = {
    "flow": (0.20, 0.88, 0.22),  # CSF that moved while FLAIR suppressed the rest of it
    "vessel": (0.30, 0.20, 1.05),
    "spot": (0.66, 0.86, 0.66),  # white-matter hyperintensities: small and many
    "core": (0.36, 0.84, 0.95),  # the enhancing part of some lesions
    "lesion": (0.36, 0.88, 0.38),
    "gliosis": (0.74, 0.88, 0.74),  # as large as some lesions, but T1 is that of white matter
    "cap": (0.68, 0.84, 0.68),  # rims of the ventricles
    "ventricle": (0.18, 0.10, 0.18),
    "nucleus": (0.60, 0.50, 0.61),
    "sulcus": (0.20, 0.12, 0.21),
    "cortex": (0.50, 0.54, 0.53),
    "white": (0.74, 0.38, 0.74),
    "csf": (0.20, 0.12, 0.24),
    "skull": (0.06, 0.05, 0.06),
    "scalp": (0.95, 0.78, 0.97),
}


@dataclass(frozen=True, slots=True)
class Grid:
    """Coordinates of the voxels, each shaped to broadcast to [slices, height, width]."""

    x: Field
    y: Field
    z: Field
    pixel: float  # edge of a pixel in head coordinates

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.z.shape[0], self.y.shape[1], self.x.shape[2]


@dataclass(frozen=True, slots=True)
class _Head:
    brain: Field  # depth below the brain's surface; negative outside
    radius: Field  # 1 on the skin
    ventricle: Field  # 1 on the ventricles' wall, less inside
    folds: Field  # 0 at the bottom of each sulcus


def make_patient(
    rng: Generator, slices: int, size: int, *, pre: bool, post: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Images uint8 [slices, size, size, 3] (pre, FLAIR, post) and the lesion bool [slices, size, size].

    A sequence that is False was not acquired: its channel is a copy of FLAIR, as in the LGG set.
    """
    grid = _grid(slices, size)
    head = _head(rng, grid)
    layers, lesion = _layers(rng, grid, head, gliosis=pre)
    signals = _compose(layers, grid)
    texture = 1 + 0.03 * smooth_noise(rng, grid.shape, (slices, 24, 24))
    gain = rng.uniform(0.65, 1.0)  # one scanner is brighter than another, in all its sequences alike
    flair = _acquire(rng, signals[1] * texture, grid, gain)
    pre_image = _acquire(rng, signals[0] * texture, grid, gain) if pre else flair
    post_image = _acquire(rng, signals[2] * texture, grid, gain) if post else flair
    return np.stack([pre_image, flair, post_image], axis=-1), lesion


def smooth_noise(rng: Generator, shape: tuple[int, int, int], cells: tuple[int, int, int]) -> Field:
    """Smooth noise of about unit variance: a random lattice interpolated by cubic B-splines."""
    lattice = rng.standard_normal(tuple(n + 3 for n in cells), dtype=np.float32)
    for axis, (size, count) in enumerate(zip(shape, cells, strict=True)):
        lattice = _interpolate(lattice, axis, size, count)
    return lattice * np.float32((315 / 151) ** 1.5)  # each axis leaves 151/315 of the lattice's variance


def _interpolate(lattice: Field, axis: int, size: int, cells: int) -> Field:
    position = (np.arange(size, dtype=np.float32) + 0.5) / size * cells
    start = np.minimum(position.astype(np.int64), cells - 1)
    t = position - start.astype(np.float32)
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    shape = [1, 1, 1]
    shape[axis] = size
    total: Field = np.zeros((), np.float32)
    for k, weight in enumerate(weights):
        total = total + np.take(lattice, start + k, axis=axis) * (weight / 6).astype(np.float32).reshape(shape)
    return total


def _grid(slices: int, size: int) -> Grid:
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
    z = np.linspace(_LOWEST, _HIGHEST, slices, dtype=np.float32)
    return Grid(line[None, None, :], line[None, :, None], z[:, None, None], 2 / size)


def _inside(field: Field, softness: float) -> Field:
    """1 where `field` is above 0, 0 below, with an edge of width `softness` for the partial volume."""
    result: Field = np.clip(field / np.float32(softness) + np.float32(0.5), 0, 1)
    return result


def _ellipsoid(grid: Grid, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Field:
    """Distance from the centre in units of the radii: 1 on the surface."""
    parts = [
        ((axis - np.float32(c)) / np.float32(r)) ** 2
        for axis, c, r in zip((grid.x, grid.y, grid.z), centre, radii, strict=True)
    ]
    result: Field = np.sqrt(parts[0] + parts[1] + parts[2])
    return result


def _head(rng: Generator, grid: Grid) -> _Head:
    width, length = 0.78 * rng.uniform(0.93, 1.05), 0.92 * rng.uniform(0.95, 1.04)
    radius = _ellipsoid(grid, (0, 0, -0.05), (width, length, 1.0))
    radius = radius + np.float32(0.018) * smooth_noise(rng, grid.shape, (3, 4, 4))
    big = rng.uniform(0.75, 1.3)  # ventricles differ widely between people
    wall = smooth_noise(rng, grid.shape, (4, 8, 8)) * np.float32(0.09)
    curve = grid.x.__abs__() - np.float32(0.10) - np.float32(0.9) * (grid.y - np.float32(0.02)) ** 2
    lateral = np.sqrt(
        (curve / np.float32(0.065 * big)) ** 2
        + ((grid.y - np.float32(0.02)) / np.float32(0.34)) ** 2
        + ((grid.z - np.float32(0.15)) / np.float32(0.24)) ** 2
    )
    cistern = _ellipsoid(grid, (0, 0.05, -0.55), (0.17, 0.13, 0.22))
    third = _ellipsoid(grid, (0, 0.06, -0.12), (0.025 * big, 0.13, 0.15))
    ventricle = np.minimum(np.minimum(lateral, cistern), third) + wall
    folds = np.abs(smooth_noise(rng, grid.shape, (7, 19, 19)))
    return _Head(np.float32(_BRAIN) - radius, radius, ventricle, folds)


def _layers(
    rng: Generator, grid: Grid, head: _Head, *, gliosis: bool
) -> tuple[dict[str, Field], npt.NDArray[np.bool_]]:
    """How far each tissue covers each voxel, 0 to 1; upper layers hide those after them."""
    edge = 1.4 * grid.pixel
    inner = _inside(head.brain - 0.03, edge) * _inside(head.ventricle - 1.05, 8 * edge)
    side = 1.0 if rng.random() < 0.5 else -1.0
    lesion, core = _lesion(rng, grid, inner, side)
    fluid = _inside(1 - head.ventricle, 8 * edge)
    shallow = np.clip(1 - head.brain / np.float32(0.26), 0, 1)
    layers = {
        "flow": fluid * _blobs(rng, grid, count=3, radius=(0.05, 0.13), spread=0.16),
        "core": core,
        "lesion": lesion,
        "vessel": _vessels(rng, grid, inner),
        "spot": inner * _blobs(rng, grid, count=14, radius=(0.03, 0.06), spread=0.5),
        "ventricle": fluid,
        "gliosis": _gliosis(rng, grid, inner, -side) if gliosis else np.zeros_like(lesion),
        "cap": _caps(rng, grid, head, inner),
        "nucleus": inner * _nuclei(grid),
        "sulcus": np.maximum(_inside(0.27 * shallow - head.folds - 0.05, 0.16), _fissure(grid, head)),
        "cortex": np.maximum(_inside(shallow - head.folds, 0.27), _inside(0.06 - head.brain, edge)),
    }
    brain = _inside(head.brain, edge)
    for name in ("vessel", "spot", "gliosis", "cap", "nucleus", "sulcus", "cortex", "flow"):
        layers[name] = layers[name] * brain
    layers["white"] = brain
    layers["csf"] = _inside(_DURA - head.radius, edge)
    layers["skull"] = _inside(_SKULL - head.radius, edge)
    patches = 1 + np.float32(0.15) * smooth_noise(rng, grid.shape, (4, 6, 6))  # fat is no even ring
    layers["scalp"] = _inside(1 - head.radius, edge) * np.clip(patches, 0.3, 1.25)
    return layers, lesion > 0.5


def _lesion(rng: Generator, grid: Grid, inner: Field, side: float) -> tuple[Field, Field]:
    """A lesion on about a third of the slices, without a gap, and its enhancing core."""
    height = rng.uniform(0.2, 0.28)
    level = grid.z.ravel()[np.abs(grid.z.ravel() - rng.uniform(-0.25, 0.4)).argmin()]  # hits a slice
    centre = (side * rng.uniform(0.24, 0.36), rng.uniform(-0.42, 0.42), float(level))
    radii = (rng.uniform(0.20, 0.32), rng.uniform(0.20, 0.34), height)
    distance = _ellipsoid(grid, centre, radii)
    ragged = _ragged(rng, grid)
    hemisphere = _inside(np.float32(side) * grid.x - np.float32(0.025), 2 * grid.pixel)
    shape = _inside(1 - distance - ragged, 0.12) * inner * hemisphere
    shape = shape * _longest_run(shape)
    core = _inside(rng.uniform(-0.2, 0.6) - distance - ragged, 0.12) * shape
    return shape, core


def _ragged(rng: Generator, grid: Grid) -> Field:
    """What makes an ellipsoid's surface lobed and frayed."""
    lobes = np.float32(0.22) * smooth_noise(rng, grid.shape, (4, 8, 8))
    return lobes + np.float32(0.1) * smooth_noise(rng, grid.shape, (6, 19, 19))


def _longest_run(shape: Field) -> Field:
    """1 on the longest run of slices that the shape is seen on, else 0: [slices, 1, 1]."""
    present = np.asarray((shape > 0.5).any(axis=(1, 2)))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]]).astype(np.int8)))
    keep = np.zeros((len(present), 1, 1), np.float32)
    if len(edges):
        longest = int((edges[1::2] - edges[::2]).argmax())
        keep[edges[2 * longest] : edges[2 * longest + 1]] = 1
    return keep


def _gliosis(rng: Generator, grid: Grid, inner: Field, side: float) -> Field:
    """Three bright patches, mostly in the hemisphere without the lesion."""
    result = np.zeros(grid.shape, np.float32)
    ragged = _ragged(rng, grid)
    for across in (1, 1, -1):
        centre = (
            across * side * rng.uniform(0.2, 0.4),
            rng.uniform(-0.5, 0.5),
            rng.uniform(-0.4, 0.45),
        )
        radii = (rng.uniform(0.08, 0.17), rng.uniform(0.08, 0.17), rng.uniform(0.12, 0.25))
        result = np.maximum(result, _inside(1 - _ellipsoid(grid, centre, radii) - ragged, 0.12))
    return result * inner


def _caps(rng: Generator, grid: Grid, head: _Head, inner: Field) -> Field:
    """Bright rims of the ventricles, thickest at the horns."""
    rough = np.float32(0.15) * smooth_noise(rng, grid.shape, (4, 6, 6))
    thick: Field = np.float32(rng.uniform(0.25, 0.45)) + rough
    horns: Field = np.clip(np.abs(grid.y - np.float32(0.02)) * 3, 0, 1)
    above = _inside(grid.z + np.float32(0.2), 0.1)
    reach = np.float32(1.1) - head.ventricle + thick * horns
    return _inside(reach, 0.3) * inner * above


def _fissure(grid: Grid, head: _Head) -> Field:
    """The cleft between the hemispheres, where no ventricle lies."""
    return _inside(np.float32(0.014) - np.abs(grid.x), 1.4 * grid.pixel) * _inside(head.ventricle - 1.8, 0.5)


def _nuclei(grid: Grid) -> Field:
    left = _ellipsoid(grid, (-0.2, 0.0, -0.02), (0.09, 0.17, 0.16))
    right = _ellipsoid(grid, (0.2, 0.0, -0.02), (0.09, 0.17, 0.16))
    return _inside(1 - np.minimum(left, right), 0.2)


def _vessels(rng: Generator, grid: Grid, inner: Field) -> Field:
    """Thin tubes that run from slice to slice, bright after contrast."""
    sheets = smooth_noise(rng, grid.shape, (4, 7, 7)), smooth_noise(rng, grid.shape, (4, 7, 7))
    return _inside(0.12 - np.sqrt(sheets[0] ** 2 + sheets[1] ** 2), 0.14) * inner


def _blobs(rng: Generator, grid: Grid, *, count: int, radius: tuple[float, float], spread: float) -> Field:
    """Small balls at random places, at most `spread` from the axis."""
    result = np.zeros(grid.shape, np.float32)
    for _ in range(count):
        r = rng.uniform(*radius)
        angle, far = rng.uniform(0, 2 * np.pi), spread * np.sqrt(rng.uniform(0, 1))
        centre = (far * np.cos(angle), far * np.sin(angle), rng.uniform(_LOWEST, _HIGHEST - 0.2))
        where = tuple(
            slice(*np.searchsorted(axis.ravel(), (c - 2 * r, c + 2 * r)).tolist())
            for axis, c in zip((grid.z, grid.y, grid.x), centre[::-1], strict=True)
        )
        part = Grid(grid.x[:, :, where[2]], grid.y[:, where[1]], grid.z[where[0]], grid.pixel)
        ball = _inside(1 - _ellipsoid(part, centre, (r, r, max(r, 0.08))), 2 * grid.pixel / r)
        result[where] = np.maximum(result[where], ball)
    return result


def _compose(layers: dict[str, Field], grid: Grid) -> list[Field]:
    """The signal of the three sequences: each layer covers what the layers above leave open."""
    signals = [np.zeros(grid.shape, np.float32) for _ in range(3)]
    open_share = np.ones(grid.shape, np.float32)
    for name, cover in layers.items():
        visible = open_share * cover
        for signal, strength in zip(signals, _SIGNAL[name], strict=True):
            signal += visible * np.float32(strength)
        open_share *= 1 - np.minimum(cover, 1)
    return signals


def _acquire(rng: Generator, signal: Field, grid: Grid, gain: float) -> npt.NDArray[np.uint8]:
    """Bias field, gain and Rician noise (the magnitude of a complex signal with Gaussian noise)."""
    bias = 1 + np.float32(0.09) * smooth_noise(rng, grid.shape, (1, 2, 2))
    sigma = np.float32(rng.uniform(0.015, 0.03))
    real = signal * bias + sigma * rng.standard_normal(grid.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(grid.shape, dtype=np.float32)
    magnitude = np.sqrt(real**2 + imaginary**2) * np.float32(240 * gain * rng.uniform(0.9, 1.05))
    stored: npt.NDArray[np.uint8] = np.clip(np.rint(magnitude), 0, 255).astype(np.uint8)
    return stored
