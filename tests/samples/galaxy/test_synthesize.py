"""samples/galaxy/synthesize.py: what is drawn and where, its noise, its truth, its volunteers."""

import dataclasses
import os

import numpy as np
import pytest
from scipy import ndimage

from mrcnn.data.formats.table import TableDataset
from samples.galaxy import markings as m
from samples.galaxy import synthesize as s

SIZE = 96


def rng_of(*seed):
    return np.random.default_rng(seed)


def first(is_wanted, start=0):
    """The first random galaxy that is wanted."""
    return next(g for g in map(s.random_galaxy, map(rng_of, range(start, 500))) if is_wanted(g))


@pytest.fixture(scope="module")
def barred_spiral():
    return first(lambda g: g.bar and len(g.arms) == 2 and g.axis_ratio > 0.7)


@pytest.fixture(scope="module")
def drawn():
    """Pictures and truths of 60 galaxies."""
    return [s.synthesize(rng_of(7, i), SIZE) for i in range(60)]


def iou(one, other):
    return (one & other).sum() / max((one | other).sum(), 1)


# ---- Galaxies ----------------------------------------------------------------------------------


def test_a_seed_draws_the_same_galaxy_and_another_one_another():
    one, again, other = (s.synthesize(rng_of(seed), SIZE) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1].masks, again[1].masks)
    assert (one[0] != other[0]).any()


@pytest.mark.parametrize("size", [1, 16, 33, 424])
def test_pictures_have_any_size(size):
    image, truth = s.synthesize(rng_of(1), size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert truth.masks.shape[:2] == (size, size)


def test_kinds_are_as_frequent_as_they_should_be():
    galaxies = [s.random_galaxy(rng_of(1, i)) for i in range(2000)]
    discs = [g for g in galaxies if g.disc_light]
    armed = [g for g in discs if g.arms]
    assert len(discs) / len(galaxies) == pytest.approx(1 - s.ELLIPTICALS, abs=0.03)
    assert np.mean([g.bar is not None for g in discs]) == pytest.approx(s.BARRED_DISCS, abs=0.03)
    assert len(armed) / len(discs) == pytest.approx(s.ARMED_DISCS, abs=0.03)
    assert {len(g.arms) for g in armed} == {2, 3, 4}
    assert {g.turn for g in armed} == {-1, 1}


def test_most_bars_and_arms_that_are_drawn_are_marked():
    bars, arms = [], []
    for i in range(150):
        rng = rng_of(2, i)
        galaxy = s.random_galaxy(rng)
        truth = s.find_truth(galaxy, s.draw_light(galaxy, SIZE, rng))
        bars += [m.LABELS["bar"] in truth.class_ids] if galaxy.bar else []
        arms += [(truth.class_ids == m.LABELS["spiral"]).sum() / max(len(galaxy.arms), 1)]
        if not galaxy.bar and not galaxy.arms:
            assert len(truth.class_ids) == 0
    assert np.mean(bars) > 0.85
    assert np.sum(arms) / np.count_nonzero(arms) > 0.9


# ---- Light -------------------------------------------------------------------------------------


def test_a_galaxy_is_the_same_at_any_size(barred_spiral):
    small = s.find_truth(barred_spiral, s.draw_light(barred_spiral, 64, rng_of(0)))
    large = s.find_truth(barred_spiral, s.draw_light(barred_spiral, 256, rng_of(0)))
    np.testing.assert_array_equal(small.class_ids, large.class_ids)
    for i in range(len(small.class_ids)):
        shrunk = large.masks[..., i].reshape(64, 4, 64, 4).mean(axis=(1, 3)) > 0.5
        assert iou(small.masks[..., i], shrunk) > 0.75
        centers = [np.mean(t.edges[i], axis=(0, 1)) / len(t.masks) for t in (small, large)]
        np.testing.assert_allclose(*centers, atol=0.03)


def test_a_disc_fades_exponentially(barred_spiral):
    galaxy = dataclasses.replace(
        barred_spiral, arms=(), bar=None, bulge_light=0.0, lopsidedness=0.0, mottling=0.0,
        ring=0.0, dust=0.0, youth=0.0, edge=9.0, axis_ratio=1.0, center=(0.5, 0.5),
    )  # fmt: skip
    bands = s.draw_light(galaxy, 200, rng_of(0)).bands
    row = bands[100, 100:, 1]
    expected = galaxy.disc_light * np.exp(-np.hypot(np.arange(100) + 0.5, 0.5) / 200 / galaxy.scale)
    np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_inclination_and_position_angle_shape_the_disc(barred_spiral):
    galaxy = dataclasses.replace(
        barred_spiral, arms=(), bar=None, ring=0.0, mottling=0.0, dust=0.0, lopsidedness=0.0,
        bulge_light=0.0, axis_ratio=0.5, position_angle=np.deg2rad(30), center=(0.5, 0.5),
    )  # fmt: skip
    light = s.draw_light(galaxy, 200, rng_of(0)).disc
    y, x = np.indices(light.shape) - 99.5
    moments = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=light.ravel())
    (short, long), axes = np.linalg.eigh(moments)
    assert np.sqrt(short / long) == pytest.approx(0.5, abs=0.03)
    assert np.rad2deg(np.arctan2(axes[1, 1], axes[0, 1])) % 180 == pytest.approx(30, abs=1)


def test_points_keep_their_light_and_their_place():
    image = np.zeros((9, 12), np.float32)
    s._add_points(image, np.array([[3.2, 4.9], [-5.0, 2.0]]), np.array([2.0, 7.0]))
    assert image.sum() == pytest.approx(2.0, rel=1e-6)
    y, x = ndimage.center_of_mass(image)
    assert (x + 0.5, y + 0.5) == (pytest.approx(3.2), pytest.approx(4.9))


def test_arms_are_bluer_than_bulges_in_the_picture():
    blueness = {"spiral": [], "center": []}
    for i in range(40):
        image, truth = s.synthesize(rng_of(11, i), SIZE)
        color = image.astype(float)
        blue = color[..., 2] - color[..., 0]
        arms = truth.masks[..., truth.class_ids == m.LABELS["spiral"]].any(axis=-1)
        if arms.any():
            blueness["spiral"].append(np.median(blue[arms]))
            middle = slice(SIZE // 2 - 2, SIZE // 2 + 2)
            blueness["center"].append(np.median(blue[middle, middle]))
    assert np.median(blueness["spiral"]) > 5 > -20 > np.median(blueness["center"])


# ---- Telescope ---------------------------------------------------------------------------------


def test_noise_is_that_of_the_electrons(monkeypatch):
    monkeypatch.setattr(s, "_add_stars", lambda *args: None)
    monkeypatch.setattr(s, "_add_distant_galaxies", lambda *args: None)
    monkeypatch.setattr(s, "_blur", lambda bands, sigma: bands)
    for light in (0.0, 2.0):
        bands = np.full((300, 300, 3), light, np.float32)
        observed = s.observe(bands, rng_of(5))
        rng = rng_of(5)
        rng.uniform()
        depth = rng.uniform(0.6, 1.6)
        electrons = (light * s.GAIN + s.SKY) * depth
        expected = np.sqrt(electrons + s.READ_NOISE**2) / depth / s.GAIN
        np.testing.assert_allclose(observed.std(axis=(0, 1)), expected, rtol=0.02)
        np.testing.assert_allclose(observed.mean(axis=(0, 1)), light, atol=1e-3)


def test_seeing_spreads_light_and_keeps_its_sum():
    bands = np.zeros((128, 128, 3), np.float32)
    bands[64, 64] = 500
    observed = s.observe(bands, rng_of(0)) - s.observe(np.zeros_like(bands), rng_of(0))
    assert observed[64, 64].max() < 250
    assert observed[56:73, 56:73].sum(axis=(0, 1)) == pytest.approx([500] * 3, rel=0.05)


def test_pictures_are_dark_where_nothing_is_and_keep_colours():
    assert s.to_rgb(np.zeros((2, 2, 3), np.float32)).max() < 40
    assert s.to_rgb(np.full((2, 2, 3), -1, np.float32)).max() == 0
    assert (s.to_rgb(np.full((2, 2, 3), 100, np.float32)) == 255).all()
    red, green, blue = s.to_rgb(np.array([[[0.2, 0.1, 0.05]]], np.float32))[0, 0].astype(float)
    assert red / green == pytest.approx(0.212 / 0.112, rel=0.02)
    assert green / blue == pytest.approx(0.112 / 0.062, rel=0.02)


# ---- Truth -------------------------------------------------------------------------------------


def test_truth_has_one_connected_mask_an_instance(drawn):
    for image, truth in drawn:
        count = len(truth.class_ids)
        assert truth.masks.shape == (*image.shape[:2], count) and truth.masks.dtype == bool
        assert truth.class_ids.dtype == np.int32 and len(truth.edges) == count
        assert truth.masks.sum(axis=-1).max(initial=0) <= 1
        assert (truth.class_ids == m.LABELS["bar"]).sum() <= 1
        for i in range(count):
            mask = truth.masks[..., i]
            assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
            assert mask.sum() >= s.SMALLEST * mask.size
    assert {1, 2} == {int(c) for _, truth in drawn for c in truth.class_ids}
    assert any(len(truth.class_ids) == 0 for _, truth in drawn)


def test_edges_go_around_the_masks(drawn):
    overlaps = []
    for _, truth in drawn:
        for i, edges in enumerate(truth.edges):
            assert edges.ndim == 3 and edges.shape[1:] == (2, 2) and len(edges) >= 2
            outline = np.concatenate([edges[:, 0], edges[::-1, 1]])
            overlaps.append(iou(m.fill_polygons([outline], SIZE, SIZE), truth.masks[..., i]))
    assert np.median(overlaps) > 0.85 and np.percentile(overlaps, 10) > 0.6


def test_a_mask_beside_its_ridge_still_has_edges():
    mask = np.zeros((20, 20), bool)
    mask[3:6, 8:15] = True
    edges = s._edges(np.array([[1.0, 10], [19, 10]]), mask)
    outline = np.concatenate([edges[:, 0], edges[::-1, 1]])
    np.testing.assert_array_equal(m.fill_polygons([outline], 20, 20), mask)


def test_the_largest_component_of_nothing_is_nothing():
    assert not s.largest_component(np.zeros((4, 4), bool)).any()
    mask = np.array([[1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0]], bool)
    assert np.argwhere(s.largest_component(mask)).tolist() == [[0, 3], [1, 2], [1, 3]]


# ---- Volunteers --------------------------------------------------------------------------------


def test_volunteers_draw_what_the_format_takes(drawn, tmp_path):
    records = [
        {"object_id": f"g{i}", **s.simulate_volunteers(truth, rng_of(i), 5, frame=300)}
        for i, (_, truth) in enumerate(drawn)
    ]
    m.write_markings(tmp_path / "m.jsonl", records)
    assert m.read_markings(tmp_path / "m.jsonl") == records
    assert all(r["size"] == 300 and len(r["volunteers"]) == 5 for r in records)


def test_many_volunteers_agree_better_than_one(drawn):
    """Of 15 volunteers, at least 6 must agree: nearer the truth than the median of them alone."""
    together, alone = [], []
    for i, (_, truth) in enumerate(drawn):
        markings = s.simulate_volunteers(truth, rng_of(8, i), 15)
        masks, class_ids = m.markings_to_masks(markings, SIZE, min_votes=6, min_area=9)
        if not len(truth.class_ids):
            assert len(class_ids) == 0
        for name, label in m.LABELS.items():
            if label in truth.class_ids:
                wanted = truth.masks[..., truth.class_ids == label].any(axis=-1)
                together.append(iou(masks[..., class_ids == label].any(axis=-1), wanted))
                each = [
                    m.fill_polygons(volunteer.get(name, []), markings["size"], SIZE)
                    for volunteer in markings["volunteers"]
                ]
                alone.append(np.median([iou(mask, wanted) for mask in each]))
    together, alone = np.array(together), np.array(alone)
    assert len(together) >= 30
    assert np.mean(together > alone) > 0.9
    assert together.mean() > alone.mean() + 0.1
    assert 0.4 < alone.mean() < 0.8


def test_volunteers_are_the_same_for_a_seed_and_differ_among_themselves(drawn):
    truth = next(truth for _, truth in drawn if len(truth.class_ids) > 2)
    one = s.simulate_volunteers(truth, rng_of(1))
    assert one == s.simulate_volunteers(truth, rng_of(1))
    assert one != s.simulate_volunteers(truth, rng_of(2))
    counts = {len(volunteer.get("spiral", [])) for volunteer in one["volunteers"]}
    assert len(one["volunteers"]) == 15 and len(counts) > 1


# ---- Command line ------------------------------------------------------------------------------


def test_the_command_writes_a_data_set(tmp_path, capsys):
    command = ["--count=6", f"--out={tmp_path}", "--size=64", "--seed=3", "--volunteers=4"]
    s.main(command)
    printed = capsys.readouterr()
    assert "6 of 6 galaxies" in printed.err and f"6 galaxies are in {tmp_path}" in printed.out
    assert sorted(os.listdir(tmp_path)) == ["markings.jsonl", "mask_labels.gzip", "masks", "pngs"]
    dataset = TableDataset()
    dataset.load_table(tmp_path / m.TABLE, tmp_path, classes=m.CLASSES)
    dataset.prepare()
    dataset.check()
    for i, (object_id, image, truth) in enumerate(s.made_up(6, 64, 3)):
        assert dataset.image_info[i]["id"] == object_id
        np.testing.assert_array_equal(dataset.load_image(i), image)
        np.testing.assert_array_equal(dataset.load_mask(i)[1], truth.class_ids)
    counts = m.prepare(tmp_path / m.MARKINGS, tmp_path, min_votes=2, min_area=4)
    assert counts["galaxies"] == 6


def test_a_galaxy_does_not_depend_on_how_many_there_are():
    assert [(object_id, image.tobytes()) for object_id, image, _ in s.made_up(2, 32, seed=5)] == [
        (object_id, image.tobytes()) for object_id, image, _ in s.made_up(4, 32, seed=5)
    ][:2]


@pytest.mark.parametrize("argument", ["--count=0", "--size=-5", "--seed=x", "--volunteers=-1"])
def test_numbers_that_make_no_sense_are_refused(argument, capsys):
    with pytest.raises(SystemExit):
        s.parse_arguments(["--out=x", argument])
    assert argument.split("=")[0] in capsys.readouterr().err
