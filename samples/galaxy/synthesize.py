"""Made-up galaxies with ground truth of their bars and spiral arms, and simulated volunteers.

    python samples/galaxy/synthesize.py --count 200 --out DIR --size 256 --seed 0 --volunteers 15

writes `DIR/pngs`, `DIR/masks` and `DIR/mask_labels.gzip` in the format of
`mrcnn.data.formats.table`, and with `--volunteers` also `DIR/markings.jsonl` in that of
`markings.py`.

A galaxy is made in three steps. `random_galaxy` chooses its parameters. `draw_light` draws its
light in three bands, and that of each arm and the bar separately. `observe` blurs it with the
seeing, adds stars and distant galaxies, and adds the noise of the sky. `to_rgb` makes the picture:
z, r and g as red, green and blue after an arcsinh stretch, as surveys show them.

Lengths are fractions of the image's side, angles are in radians. Light is in the units of the
picture: 1 is near white, 0.02 is about the noise of the sky. The plane of the disc has polar
coordinates (radius, angle); it is tilted and rotated into the image.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

# This checkout, in case the package is not installed.
ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if ROOT_DIR not in sys.path:
    sys.path.append(ROOT_DIR)

from mrcnn.types import PathLike  # noqa: E402
from samples.galaxy.markings import (  # noqa: E402
    CLASSES,
    LABELS,
    MARKINGS,
    write_dataset,
    write_markings,
)

SIZE = 424  # Galaxy Zoo's pictures

# Fractions of the kinds of galaxies. Ellipticals, and discs without bar and arms, have no markings.
ELLIPTICALS = 0.2
BARRED_DISCS = 0.38
ARMED_DISCS = 0.6
ARM_COUNTS = {2: 0.68, 3: 0.18, 4: 0.14}

# Colours: light in (z, r, g), shown as (red, green, blue), relative to r.
OLD = np.array([1.22, 1.0, 0.74], np.float32)  # bulges, bars, ellipticals
MIXED = np.array([1.04, 1.0, 0.88], np.float32)  # the inner disc
YOUNG = np.array([0.80, 0.96, 1.12], np.float32)  # the outer disc
ARM = np.array([0.73, 0.95, 1.20], np.float32)
KNOT = np.array([0.52, 0.90, 1.50], np.float32)  # young clusters
DUST = np.array([0.55, 1.0, 1.45], np.float32)  # extinction of each band

# Electrons per pixel: for light of 1, of the sky in (z, r, g), and the read-out noise.
GAIN = 1500.0
SKY = np.array([2000.0, 1000.0, 800.0], np.float32)
READ_NOISE = 6.0
SOFTENING = 20.0  # of the arcsinh stretch

# An arm or a bar is marked where its light is at least this fraction of the disc's, and at least
# FAINTEST. Marks that cover less than SMALLEST of the image are dropped, and so are bars that the
# bulge mostly outshines.
ARM_SHARE = 0.25
BAR_SHARE = 0.25
FAINTEST = 0.02
SMALLEST = 1.2e-3


# ---- Parameters of a galaxy ----------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """A logarithmic spiral from radius `start` to `end`, beginning at the angle `phase`."""

    start: float
    end: float
    phase: float
    pitch: float
    width: float  # one standard deviation across, at twice the disc's scale length
    contrast: float  # light on the ridge, relative to the disc's
    wobble: tuple[tuple[float, float], ...]  # (amplitude, phase) of waves along log radius


@dataclass(frozen=True)
class Bar:
    """An ellipse that fades a little towards its sharp ends."""

    length: float  # from the centre to an end
    axis_ratio: float
    angle: float  # in the plane of the disc
    light: float
    boxiness: float  # exponent of the ellipse: 2 for an ellipse, more for corners
    steepness: float


@dataclass(frozen=True)
class Galaxy:
    """The parameters of `draw_light`; an elliptical has only a bulge."""

    center: tuple[float, float]
    position_angle: float
    axis_ratio: float  # of the tilted disc
    turn: int  # 1 or -1: direction in which the arms open
    scale: float  # the disc's exponential scale length
    disc_light: float  # at its centre
    youth: float  # 0..1: young fraction of the disc
    edge: float  # radius at which the disc ends
    lopsidedness: float  # relative difference of radii on two opposite sides
    bulge_light: float  # at its effective radius
    bulge_radius: float
    bulge_sersic: float
    bulge_axis_ratio: float
    dust: float
    mottling: float  # contrast of the disc's patches
    knots: float  # number of star-forming knots in the arms
    ring: float  # light of a ring around the bar, relative to the disc's
    bar: Bar | None = None
    arms: tuple[Arm, ...] = ()


class Truth(NamedTuple):
    """The markings of a perfect observer in an image of H x W pixels.

    masks: `[H, W, N]` bool without overlaps; class_ids: `[N]` int32.
    edges: N arrays `[K, 2, (x, y)]` in pixels: both sides of an arm from the inside out, or of a
        bar from end to end.
    """

    masks: np.ndarray
    class_ids: np.ndarray
    edges: list[np.ndarray]


def random_galaxy(rng: np.random.Generator) -> Galaxy:
    """Parameters of a galaxy; the kinds are as frequent as in Galaxy Zoo."""
    return random_elliptical(rng) if rng.random() < ELLIPTICALS else random_disc(rng)


def random_elliptical(rng: np.random.Generator) -> Galaxy:
    """A smooth galaxy without a disc."""
    axis_ratio = rng.uniform(0.5, 1.0)
    return Galaxy(
        center=_random_center(rng),
        position_angle=rng.uniform(0, math.pi),
        axis_ratio=axis_ratio,
        turn=1,
        scale=rng.uniform(0.07, 0.115),
        disc_light=0.0,
        youth=0.0,
        edge=1.0,
        lopsidedness=0.0,
        bulge_light=rng.uniform(0.12, 0.35),
        bulge_radius=rng.uniform(0.05, 0.12),
        bulge_sersic=rng.uniform(2.5, 5.0),
        bulge_axis_ratio=axis_ratio,
        dust=0.0,
        mottling=0.0,
        knots=0.0,
        ring=0.0,
    )


def random_disc(rng: np.random.Generator) -> Galaxy:
    """A galaxy with a disc, with or without bar and arms."""
    barred, armed = rng.random() < BARRED_DISCS, rng.random() < ARMED_DISCS
    scale = rng.uniform(0.07, 0.115)
    youth = rng.uniform(0.45, 1.0) if armed else rng.uniform(0.0, 0.5)
    # Nobody marks bars and arms of a galaxy seen edge-on.
    tilt = math.acos(rng.uniform(0.42 if barred or armed else 0.08, 1.0))
    bulge_ratio = rng.uniform(0.75, 1.0)
    turn = int(rng.choice((-1, 1)))
    disc_light = rng.uniform(0.35, 1.1)
    bar = random_bar(rng, scale, disc_light) if barred else None
    bulge_light = rng.uniform(0.15, 0.9) if youth < 0.75 else rng.uniform(0.05, 0.4)
    bulge_light *= 0.75 if barred else 1.0  # the bar has part of it
    return Galaxy(
        center=_random_center(rng),
        position_angle=rng.uniform(0, 2 * math.pi),
        axis_ratio=math.sqrt(math.cos(tilt) ** 2 * (1 - 0.15**2) + 0.15**2),
        turn=turn,
        scale=scale,
        disc_light=disc_light,
        youth=youth,
        edge=scale * rng.uniform(3.0, 5.0),
        lopsidedness=rng.uniform(0, 0.1),
        bulge_light=bulge_light,
        bulge_radius=scale * rng.uniform(0.15, 0.4),
        bulge_sersic=rng.uniform(1.0, 3.0),
        bulge_axis_ratio=math.sqrt(1 - (1 - bulge_ratio**2) * math.sin(tilt) ** 2),
        dust=rng.uniform(0.1, 0.7) * youth,
        mottling=rng.uniform(0.08, 0.26) * (0.15 + youth),
        knots=rng.uniform(0.3, 1.6) * youth if armed else 0.0,
        ring=rng.uniform(0.3, 1.0) if barred and rng.random() < 0.3 else 0.0,
        bar=bar,
        arms=random_arms(rng, scale, turn, bar) if armed else (),
    )


def random_bar(rng: np.random.Generator, scale: float, disc_light: float) -> Bar:
    """A bar for a disc of this scale length and central light."""
    return Bar(
        length=scale * rng.uniform(0.95, 2.1),
        axis_ratio=rng.uniform(0.24, 0.42),
        angle=rng.uniform(0, math.pi),
        light=disc_light * rng.uniform(0.7, 1.3),
        boxiness=rng.uniform(2.0, 2.8),
        steepness=rng.uniform(1.0, 1.8),
    )


def random_arms(rng: np.random.Generator, scale: float, turn: int, bar: Bar | None):
    """Two to four similar arms; if there is a bar, two of them begin at its ends."""
    count = int(rng.choice(list(ARM_COUNTS), p=list(ARM_COUNTS.values())))
    pitch = math.radians(rng.uniform(13, 35))
    start = bar.length * 0.92 if bar else scale * rng.uniform(0.45, 0.9)
    longest = math.radians(rng.uniform(200, 420)) * (1.1 - 0.35 * (count - 2) / 2)
    end = min(scale * rng.uniform(2.5, 4.0), start * math.exp(longest * math.tan(pitch)))
    # Distance between neighbouring arms.
    apart = 2 * math.pi * 1.5 * scale * math.sin(pitch) / count
    width = min(scale * rng.uniform(0.18, 0.38), 0.15 * apart)
    contrast = math.exp(rng.uniform(math.log(0.5), math.log(2.2)))
    first = bar.angle if bar else rng.uniform(0, 2 * math.pi)
    arms = []
    for i in range(count):
        minor = i >= 2  # beyond the two main arms: later, fainter, shorter
        own_pitch = pitch * rng.uniform(0.88, 1.14)
        own_start = start * (rng.uniform(1.1, 1.6) if minor else rng.uniform(0.95, 1.08))
        own_end = max(end * rng.uniform(0.8, 1.08) * (0.85 if minor else 1.0), 1.5 * own_start)
        # A bar has two ends; without a bar, arms are spread evenly around the centre.
        between = (i % 2) * math.pi + (turn * 0.9 if minor else 0.0)
        even = 2 * math.pi * i / count
        arms.append(
            Arm(
                start=own_start,
                end=own_end,
                phase=first + (between if bar else even) + rng.normal(0, 0.05 if bar else 0.12),
                pitch=own_pitch,
                width=width * rng.uniform(0.85, 1.2),
                contrast=contrast * rng.uniform(0.8, 1.1) * (0.75 if minor else 1.0),
                wobble=tuple(
                    (rng.uniform(0, 0.22) / k, rng.uniform(0, 2 * math.pi)) for k in (1, 2, 3)
                ),
            )
        )
    return tuple(arms)


def _random_center(rng) -> tuple[float, float]:
    return 0.5 + rng.normal(0, 0.006), 0.5 + rng.normal(0, 0.006)


# ---- Light of a galaxy ---------------------------------------------------------------------------


class Light(NamedTuple):
    """A galaxy's light before it reaches a telescope.

    bands: `[H, W, (z, r, g)]` float32.
    disc, bulge, bar: `[H, W]` float32, smooth light of each alone in r; arms: one array per arm.
    """

    bands: np.ndarray
    disc: np.ndarray
    bulge: np.ndarray
    bar: np.ndarray
    arms: list[np.ndarray]


def draw_light(galaxy: Galaxy, size: int, rng: np.random.Generator) -> Light:
    """The light of a galaxy in an image of `size` x `size` pixels.

    The galaxy is the same at any size; its random parts (patches, knots) come from `rng`.
    """
    x, y = _sky_coordinates(galaxy, size)
    plane_y = y / galaxy.axis_ratio
    radius = np.sqrt(x * x + plane_y * plane_y)
    angle = np.arctan2(plane_y, x)

    radius = radius * _lopsided(galaxy, radius, angle)
    edge = _fade((radius - galaxy.edge) / (1.2 * galaxy.scale))
    disc = galaxy.disc_light * np.exp(-radius / galaxy.scale) * edge
    # Young stars reach farther out than old ones.
    young = galaxy.disc_light * np.exp(-radius / (1.25 * galaxy.scale)) * edge * galaxy.youth
    patches = np.exp(galaxy.mottling * _mottling(galaxy, radius, angle, rng))
    bar, hollow = _bar_and_hollow(galaxy.bar, galaxy.ring, radius, angle)
    arms, dust = [], np.zeros_like(radius)
    for arm in galaxy.arms:
        ridge, across = _arm_profile(arm, galaxy, radius, angle)
        arms.append(ridge * (0.7 * young + 0.5 * disc) * arm.contrast)
        dust += galaxy.dust * across
    if galaxy.bar is not None:
        dust += 0.6 * galaxy.dust * _bar_dust(galaxy, radius, angle)
    if galaxy.axis_ratio < 0.3:
        dust += 2 * galaxy.dust * np.exp(-((y / (0.12 * galaxy.scale)) ** 2) / 2) * edge

    bulge = _sersic(
        np.sqrt(x * x + (y / galaxy.bulge_axis_ratio) ** 2),
        galaxy.bulge_light,
        galaxy.bulge_radius,
        galaxy.bulge_sersic,
    )
    old = disc * (1 - 0.6 * galaxy.youth) * hollow
    outer = np.clip(radius / (3 * galaxy.scale), 0, 1)[..., None]
    bands = (old * np.sqrt(patches))[..., None] * MIXED
    bands += (0.6 * young * hollow * patches)[..., None] * (MIXED + outer * (YOUNG - MIXED))
    if arms:
        bands += (sum(arms) * patches)[..., None] * (MIXED + _blue(galaxy, outer) * (ARM - MIXED))
        bands += _knots(galaxy, size, rng)[..., None] * KNOT
    bands += bar[..., None] * OLD
    bands *= np.exp(-dust[..., None] * DUST)
    bands += bulge[..., None] * OLD
    return Light(bands, old + 0.6 * young * hollow, bulge, bar, arms)


def _blue(galaxy: Galaxy, outer: np.ndarray) -> np.ndarray:
    return np.clip(0.35 + galaxy.youth * (0.3 + 0.5 * outer), 0, 1)


def _sky_coordinates(galaxy: Galaxy, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres along the disc's long and short axis: two `[size, size]` float32."""
    ticks = ((np.arange(size) + 0.5) / size).astype(np.float32)
    dx, dy = ticks[None, :] - galaxy.center[0], ticks[:, None] - galaxy.center[1]
    cos, sin = math.cos(galaxy.position_angle), math.sin(galaxy.position_angle)
    return (dx * cos + dy * sin).astype(np.float32), (dy * cos - dx * sin).astype(np.float32)


def _lopsided(galaxy: Galaxy, radius, angle) -> np.ndarray:
    """Factor of the radius, larger on one side of the disc than on the other."""
    return 1 + galaxy.lopsidedness * np.cos(angle) * np.minimum(radius / galaxy.edge, 1)


def _to_pixels(galaxy: Galaxy, radius, angle, size: int) -> np.ndarray:
    """Points of the disc's plane as `[..., (x, y)]` pixels; pixel centres are at .5."""
    stretched = radius / _lopsided(galaxy, radius, angle)
    stretched = radius / _lopsided(galaxy, stretched, angle)
    x, y = stretched * np.cos(angle), stretched * np.sin(angle) * galaxy.axis_ratio
    cos, sin = math.cos(galaxy.position_angle), math.sin(galaxy.position_angle)
    return size * np.stack(
        [galaxy.center[0] + x * cos - y * sin, galaxy.center[1] + x * sin + y * cos], axis=-1
    )


def _fade(t: np.ndarray) -> np.ndarray:
    """A smooth step from 1 for t far below 0 to 0 for t far above."""
    return 1 / (1 + np.exp(np.clip(4 * t, -30, 30)))


def _sersic(radius, light, effective_radius, index) -> np.ndarray:
    b = 2 * index - 1 / 3  # half of the light is within the effective radius
    softened = np.sqrt(radius**2 + (0.08 * effective_radius) ** 2) / effective_radius
    return light * np.exp(-b * (softened ** (1 / index) - 1))


def _bar_and_hollow(bar: Bar | None, ring: float, radius, angle):
    """The bar's light, and the factor of the disc's light, which a bar reduces beside it."""
    if bar is None:
        return np.zeros_like(radius), np.float32(1)
    around = radius / bar.length
    light = bar.light * np.clip(1 - _bar_radius(bar, radius, angle) ** 2, 0, 1) ** bar.steepness
    light *= np.exp(-0.8 * around)
    hollow = 1 - 0.4 * _fade((around - 0.85) / 0.35)
    return light, hollow + ring * np.exp(-(((around - 1.05) / 0.13) ** 2) / 2)


def _bar_radius(bar: Bar, radius, angle) -> np.ndarray:
    """0 at the centre, 1 on the bar's edge."""
    along = np.abs(radius * np.cos(angle - bar.angle)) / bar.length
    across = np.abs(radius * np.sin(angle - bar.angle)) / (bar.length * bar.axis_ratio)
    return (along**bar.boxiness + across**bar.boxiness) ** (1 / bar.boxiness)


def _bar_dust(galaxy: Galaxy, radius, angle) -> np.ndarray:
    """Two straight dust lanes, each on the leading side of one half of the bar."""
    bar = galaxy.bar
    along = radius * np.cos(angle - bar.angle) / bar.length
    across = radius * np.sin(angle - bar.angle) / (bar.length * bar.axis_ratio)
    leading = -galaxy.turn * np.sign(along)
    lane = np.exp(-(((across * leading - 0.4) / 0.16) ** 2) / 2)
    return lane * np.exp(-(((np.abs(along) - 0.5) / 0.25) ** 2))


def _ridge_angle(arm: Arm, turn: int, radius) -> np.ndarray:
    """The angle of an arm's ridge at a radius."""
    turns = np.log(np.maximum(radius, 0.1 * arm.start) / arm.start)
    wobble = sum(a * np.sin(2 * k * turns + p) for k, (a, p) in enumerate(arm.wobble, start=1))
    return arm.phase + turn * (turns / math.tan(arm.pitch) + wobble)


def _arm_width(arm: Arm, scale: float, radius) -> np.ndarray:
    return arm.width * (0.55 + 0.45 * radius / (2 * scale))


def _arm_strength(arm: Arm, radius) -> np.ndarray:
    """0..1 along the arm: rises at its start and fades towards its end."""
    rise = _fade((0.95 * arm.start - radius) / (0.3 * arm.start))
    return rise * _fade((radius - 0.85 * arm.end) / (0.22 * arm.end))


def _arm_profile(arm: Arm, galaxy: Galaxy, radius, angle):
    """Light of an arm, 1 on its ridge, and dust along its inner side: two `[H, W]`."""
    # At each radius an arm has one angle, however often it winds.
    ahead = (angle - _ridge_angle(arm, galaxy.turn, radius)) * galaxy.turn
    ahead = (ahead + math.pi) % (2 * math.pi) - math.pi
    inwards = ahead * radius * math.sin(arm.pitch) / _arm_width(arm, galaxy.scale, radius)
    # Steep on the side where gas flows in, shallow on the other side.
    side = np.where(inwards > 0, inwards / 0.8, inwards / 1.15)
    strength = _arm_strength(arm, radius)
    lane = np.exp(-(((inwards - 1.35) / 0.45) ** 2) / 2)
    return strength * np.exp(-(side**2) / 2), strength * lane


def _mottling(galaxy: Galaxy, radius, angle, rng) -> np.ndarray:
    """Patches stretched along the direction of the arms, about -2..2: `[H, W]`."""
    pitch = galaxy.arms[0].pitch if galaxy.arms else 0.4
    noise = rng.normal(size=(48, 72))
    noise = ndimage.gaussian_filter(noise, (1.2, 1.1), mode=("nearest", "wrap"))
    noise = (noise / noise.std()).astype(np.float32)
    turns = np.log(np.maximum(radius, 0.1 * galaxy.scale) / galaxy.scale)
    behind = (angle - 0.5 * galaxy.turn * turns / math.tan(pitch)) / (2 * math.pi) % 1.0
    rows = np.clip((turns + 2.3) / 4.3, 0, 1) * 47
    return ndimage.map_coordinates(noise, [rows, behind * 72], order=1, mode="grid-wrap")


def _knots(galaxy: Galaxy, size: int, rng: np.random.Generator) -> np.ndarray:
    """Star-forming knots along the arms: `[size, size]` float32."""
    fine, coarse = np.zeros((2, size, size), np.float32)
    for arm in galaxy.arms:
        count = rng.poisson(45 * galaxy.knots)
        radius = np.exp(rng.uniform(math.log(arm.start * 1.1), math.log(arm.end), count))
        away = rng.normal(0, 0.55, count) * _arm_width(arm, galaxy.scale, radius)
        angle = _ridge_angle(arm, galaxy.turn, radius) + away / (radius * math.sin(arm.pitch))
        local = galaxy.disc_light * np.exp(-radius / (1.3 * galaxy.scale)) * arm.contrast
        light = local * _arm_strength(arm, radius) * rng.lognormal(-0.7, 0.9, count)
        points = _to_pixels(galaxy, radius, angle, size)
        half = count // 2
        _add_points(fine, points[:half], light[:half] * _spot(0.035 * galaxy.scale * size))
        _add_points(coarse, points[half:], 0.5 * light[half:] * _spot(0.09 * galaxy.scale * size))
    fine = ndimage.gaussian_filter(fine, 0.035 * galaxy.scale * size)
    return fine + ndimage.gaussian_filter(coarse, 0.09 * galaxy.scale * size)


def _spot(sigma: float) -> float:
    """Light of a point whose peak is 1 after a blur by sigma pixels."""
    return 2 * math.pi * max(sigma, 0.6) ** 2


def _add_points(image: np.ndarray, points: np.ndarray, light: np.ndarray) -> None:
    """Add points of light in place, each to its four nearest pixels; points outside are dropped.

    Args:
        image: `[H, W]` or `[H, W, C]`; points: `[N, (x, y)]` pixels; light: `[N]` or `[N, C]`.
    """
    corner = points - 0.5
    low = np.floor(corner).astype(int)
    part = corner - low
    for dx in (0, 1):
        for dy in (0, 1):
            share = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
            x, y = low[:, 0] + dx, low[:, 1] + dy
            inside = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
            value = (light.T * share).T[inside]
            np.add.at(image, (y[inside], x[inside]), value.astype(image.dtype))


# ---- Ground truth --------------------------------------------------------------------------------


def find_truth(galaxy: Galaxy, light: Light) -> Truth:
    """Where arms and bar stand out from the disc, before seeing and noise."""
    size = len(light.disc)
    smallest = SMALLEST * size * size
    masks, class_ids, edges = [], [], []
    free = np.ones_like(light.disc, bool)
    if galaxy.bar is not None:
        bar = largest_component((light.bar > BAR_SHARE * light.disc) & (light.bar > FAINTEST))
        drowned = light.bulge > light.bar
        if bar.sum() >= smallest and (bar & ~drowned).sum() > 0.35 * bar.sum():
            masks.append(bar)
            class_ids.append(LABELS["bar"])
            edges.append(_edges(_bar_ridge(galaxy, size), bar))
            free &= ~bar
    brightest = np.max(light.arms, axis=0) if light.arms else None
    for arm, ridge in zip(galaxy.arms, light.arms, strict=True):
        shown = (ridge > ARM_SHARE * light.disc) & (ridge > FAINTEST) & (ridge == brightest)
        mask = largest_component(shown & free)
        if mask.sum() >= smallest:
            masks.append(mask)
            class_ids.append(LABELS["spiral"])
            edges.append(_edges(_arm_ridge(galaxy, arm, size), mask))
    stacked = np.stack(masks, axis=-1) if masks else np.zeros((size, size, 0), bool)
    return Truth(stacked, np.array(class_ids, np.int32), edges)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 8-connected component of a mask: `[H, W]` bool."""
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if count == 0:
        return np.zeros_like(mask, bool)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])


def _bar_ridge(galaxy: Galaxy, size: int) -> np.ndarray:
    """The long axis of the bar: `[K, (x, y)]` pixels."""
    along = np.linspace(-1.1, 1.1, 60) * galaxy.bar.length
    return _to_pixels(galaxy, along, galaxy.bar.angle, size)


def _arm_ridge(galaxy: Galaxy, arm: Arm, size: int) -> np.ndarray:
    """The middle of an arm from the inside out: `[K, (x, y)]` pixels."""
    radius = np.exp(np.linspace(math.log(0.6 * arm.start), math.log(1.3 * arm.end), 120))
    return _to_pixels(galaxy, radius, _ridge_angle(arm, galaxy.turn, radius), size)


def _edges(ridge: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Both sides of a mask along the part of a ridge that the mask covers.

    Args:
        ridge: `[K, (x, y)]` pixels; mask: `[H, W]` bool.

    Returns:
        `[k, 2, (x, y)]` pixels, k at least 2.
    """
    covered = np.flatnonzero(_sample(mask, ridge))
    if len(covered) < 2:  # a mask beside its ridge: use its box
        y, x = np.nonzero(mask)
        low, high = np.array([x.min(), y.min()]), np.array([x.max() + 1, y.max() + 1])
        return np.array([[low, [low[0], high[1]]], [[high[0], low[1]], high]], float)
    ridge = ridge[covered[0] : covered[-1] + 1]
    tangent = np.gradient(ridge, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    steps = np.arange(0, 0.12 * len(mask), 0.5)
    sides = []
    for sign in (1, -1):
        points = ridge[:, None] + sign * steps[:, None] * normal[:, None]
        reached = np.cumprod(_sample(mask, points), axis=1).sum(axis=1)
        sides.append(ridge + sign * (0.5 * reached)[:, None] * normal)
    return np.stack(sides, axis=1)


def _sample(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points `[..., (x, y)]` have their pixel in a mask; none outside the image has."""
    x, y = np.moveaxis(np.floor(points).astype(int), -1, 0)
    inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    return inside & mask[np.where(inside, y, 0), np.where(inside, x, 0)]


# ---- Telescope and picture -----------------------------------------------------------------------


def observe(bands: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light as a telescope records it: seeing, stars, distant galaxies, noise, sky subtracted.

    Args:
        bands: `[H, W, (z, r, g)]` float32.

    Returns:
        `[H, W, (z, r, g)]` float32; noise may be below 0.
    """
    size = len(bands)
    seeing = rng.uniform(0.007, 0.013) * size / 2.355  # one standard deviation, in pixels
    scene = bands.copy()
    _add_stars(scene, seeing, rng)
    _add_distant_galaxies(scene, rng)
    scene = 0.8 * _blur(scene, seeing) + 0.2 * _blur(scene, 2.2 * seeing)  # a core and wings
    depth = rng.uniform(0.6, 1.6)  # of the exposure
    electrons = (scene * GAIN + SKY) * depth
    # With more than 500 electrons the Poisson distribution is nearly normal.
    noise = rng.standard_normal(scene.shape, np.float32)
    electrons += noise * np.sqrt(electrons + READ_NOISE**2)
    # Pictures are resampled from the camera's pixels, so the noise of neighbours correlates.
    return _blur((electrons / depth - SKY) / GAIN, 0.0016 * size)


def _blur(bands: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(bands, (sigma, sigma, 0), mode="nearest")


def _add_stars(scene: np.ndarray, seeing: float, rng: np.random.Generator) -> None:
    count = rng.poisson(3.0)
    points = rng.uniform(0, len(scene), (count, 2))
    peak = np.minimum(0.06 * rng.uniform(0, 1, count) ** -1.3, 8.0)
    warmth = rng.uniform(0, 1, (count, 1))
    color = warmth * OLD * [1.15, 1, 0.8] + (1 - warmth) * YOUNG
    _add_points(scene, points, peak[:, None] * color * _spot(seeing))


def _add_distant_galaxies(scene: np.ndarray, rng: np.random.Generator) -> None:
    """Small faint galaxies, most of them red, in place."""
    size = len(scene)
    for _ in range(rng.poisson(7)):
        x, y = rng.uniform(0, size, 2)
        scale = size * rng.uniform(0.004, 0.011)
        reach = 7 * scale
        left, top = max(int(x - reach), 0), max(int(y - reach), 0)
        patch = scene[top : int(y + reach) + 1, left : int(x + reach) + 1]
        rows, columns = np.indices(patch.shape[:2])
        dx, dy = columns + (left + 0.5 - x), rows + (top + 0.5 - y)
        angle, ratio = rng.uniform(0, math.pi), rng.uniform(0.3, 1)
        along = dx * math.cos(angle) + dy * math.sin(angle)
        across = (dy * math.cos(angle) - dx * math.sin(angle)) / ratio
        light = 0.08 / rng.uniform(0.2, 1) * np.exp(-np.hypot(along, across) / scale)
        redness = rng.beta(2, 1)
        color = redness * OLD * [1.1, 1, 0.85] + (1 - redness) * YOUNG
        patch += (light[..., None] * color).astype(np.float32)


def to_rgb(bands: np.ndarray) -> np.ndarray:
    """The picture of an observation: an arcsinh stretch of the mean that keeps the colours.

    Args:
        bands: `[H, W, (z, r, g)]` float32.

    Returns:
        `[H, W, 3]` uint8 RGB.
    """
    raised = bands + 0.012
    mean = np.maximum(raised.mean(axis=-1, keepdims=True), 1e-4)
    rgb = raised * (np.arcsinh(SOFTENING * mean) / (0.95 * math.sqrt(SOFTENING) * mean))
    return np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8)


def synthesize(rng: np.random.Generator, size: int = SIZE) -> tuple[np.ndarray, Truth]:
    """A random galaxy: its picture `[size, size, 3]` uint8 RGB and the truth."""
    galaxy = random_galaxy(rng)
    light = draw_light(galaxy, size, rng)
    return to_rgb(observe(light.bands, rng)), find_truth(galaxy, light)


# ---- Volunteers ----------------------------------------------------------------------------------


def simulate_volunteers(
    truth: Truth, rng: np.random.Generator, count: int = 15, frame: int = 512
) -> dict[str, Any]:
    """Markings of `count` volunteers, some careful and some careless.

    They draw coarse polygons that are too wide or too narrow, too long or too short, cut an arm
    into two parts, miss objects and mark some that do not exist.

    Args:
        truth: of the galaxy.
        frame: side of the square frame in which they draw.

    Returns:
        `size` and `volunteers` of a line of markings; see `markings.py`.
    """
    scale = frame / truth.masks.shape[0]
    careless = rng.beta(2, 4, count)
    return {
        "size": frame,
        "volunteers": [_volunteer(truth, scale, frame, c, rng) for c in careless],
    }


def _volunteer(truth: Truth, scale: float, frame: int, careless: float, rng) -> dict[str, list]:
    marked: dict[str, list] = {}
    for class_id, edges in zip(truth.class_ids, truth.edges, strict=True):
        if rng.random() < 0.04 + 0.35 * careless:
            continue
        for part in _parts(class_id, careless, rng):
            polygon = _draw_around(edges * scale, part, frame, careless, rng)
            marked.setdefault(CLASSES[class_id - 1], []).append(polygon)
    if rng.random() < 0.02 + 0.2 * careless:
        marked.setdefault(str(rng.choice(CLASSES)), []).append(_mistake(frame, rng))
    return marked


def _parts(class_id: int, careless: float, rng) -> list[tuple[float, float]]:
    """Where along an object a volunteer's polygons begin and end; 0 and 1 are the object's ends."""
    begin = rng.normal(0.0, 0.03 + 0.08 * careless)
    end = rng.normal(0.98, 0.04 + 0.12 * careless)
    if class_id == LABELS["spiral"] and rng.random() < 0.3 * careless:
        gap = rng.uniform(0.35, 0.65)
        return [(begin, gap - 0.02), (gap + 0.02, end)]
    return [(begin, end)]


def _draw_around(edges: np.ndarray, part, frame: int, careless: float, rng) -> list[list[float]]:
    """One closed polygon along both edges `[K, 2, (x, y)]` of an object."""
    steps = np.linspace(*part, int(rng.integers(4, 7) + 8 * (1 - careless)))
    sides = _along(edges, steps)
    middle = sides.mean(axis=1, keepdims=True)
    fatness = math.exp(rng.normal(0.08, 0.12 + 0.4 * careless))
    shift = rng.normal(0, (0.002 + 0.01 * careless) * frame, 2)
    drawn = middle + (sides - middle) * fatness + shift
    drawn += rng.normal(0, (0.0015 + 0.006 * careless) * frame, drawn.shape)
    polygon = np.concatenate([drawn[:, 0], drawn[::-1, 1]])
    return np.round(polygon, 1).tolist()


def _along(edges: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Both edges at fractions of their length, extended straight on: `[len(steps), 2, 2]`."""
    place = steps * (len(edges) - 1)
    low = np.clip(np.floor(place).astype(int), 0, len(edges) - 2)
    part = (place - low)[:, None, None]
    middle = edges.mean(axis=1, keepdims=True)
    halves = edges - middle
    # Beyond an end the middle line continues and the width stays the same.
    within = np.clip(part, 0, 1)
    return (
        middle[low] * (1 - part)
        + middle[low + 1] * part
        + halves[low] * (1 - within)
        + halves[low + 1] * within
    )


def _mistake(frame: int, rng: np.random.Generator) -> list[list[float]]:
    """An ellipse in a random place."""
    around = np.linspace(0, 2 * math.pi, 9)[:-1]
    center = rng.normal(0.5, 0.12, 2)
    length, width, angle = rng.uniform(0.05, 0.14), rng.uniform(0.02, 0.05), rng.uniform(0, math.pi)
    x, y = length * np.cos(around), width * np.sin(around)
    cos, sin = math.cos(angle), math.sin(angle)
    points = np.stack([x * cos - y * sin, x * sin + y * cos], axis=1) + center
    return np.round(points * frame, 1).tolist()


# ---- Command line --------------------------------------------------------------------------------


def made_up(count: int, size: int, seed: int) -> Iterator[tuple[str, np.ndarray, Truth]]:
    """`count` galaxies: object id, picture and truth; galaxy n depends only on `seed` and n."""
    for i in range(count):
        image, truth = synthesize(np.random.default_rng([seed, i]), size)
        yield f"made-up-{seed}-{i:05d}", image, truth


def write_made_up(
    folder: PathLike, count: int, size: int = SIZE, seed: int = 0, volunteers: int = 0
) -> None:
    """Write a data set of made-up galaxies, with markings if there are volunteers."""
    markings: list[dict[str, Any]] = []

    def galaxies():
        for i, (object_id, image, truth) in enumerate(made_up(count, size, seed)):
            if volunteers:
                rng = np.random.default_rng([seed, i, 1])
                drawn = simulate_volunteers(truth, rng, volunteers)
                markings.append({"object_id": object_id, **drawn})
            _show_progress(i + 1, count)
            yield object_id, image, truth.masks, truth.class_ids

    write_dataset(folder, galaxies())
    if volunteers:
        write_markings(os.path.join(folder, MARKINGS), markings)


def _show_progress(done: int, count: int) -> None:
    if done == count or sys.stderr.isatty():
        end = "\n" if done == count else ""
        print(f"\r{done} of {count} galaxies", end=end, file=sys.stderr)


def parse_arguments(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw made-up galaxies with masks.")
    parser.add_argument(
        "--count", type=_positive, default=200, help="number of galaxies (default: 200)"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--size", type=_positive, default=SIZE, help=f"pixels along a side (default: {SIZE})"
    )
    parser.add_argument(
        "--seed", type=_whole, default=0, help="each seed gives other galaxies (default: 0)"
    )
    parser.add_argument(
        "--volunteers",
        type=_whole,
        default=0,
        metavar="COUNT",
        help="number of volunteers whose markings are written (default: 0)",
    )
    return parser.parse_args(argv)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    if not _whole(text):
        raise argparse.ArgumentTypeError("0 is too small; the least is 1")
    return int(text)


def main(argv=None) -> None:
    """Write the data set that the command line describes."""
    arguments = parse_arguments(argv)
    write_made_up(
        arguments.out, arguments.count, arguments.size, arguments.seed, arguments.volunteers
    )
    print(f"{arguments.count} galaxies are in {arguments.out}")


if __name__ == "__main__":
    main()
