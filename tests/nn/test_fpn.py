"""Feature pyramid: sizes, and that every level sees those above it."""

import keras
import numpy as np

from mrcnn.nn.fpn import fpn_graph


def pyramid(side=64, size=4):
    inputs = [keras.Input((side >> i, side >> i, 3 + i)) for i in range(2, 6)]
    return keras.Model(inputs, fpn_graph(*inputs, size))


def maps(side=64):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, side >> i, side >> i, 3 + i)).astype("f4") for i in range(2, 6)]


def test_five_levels_of_one_width():
    model = pyramid()
    assert model.output_shape == [(None, side, side, 4) for side in (16, 8, 4, 2, 1)]
    assert {layer.name for layer in model.layers if layer.weights} == {
        *(f"fpn_c{i}p{i}" for i in range(2, 6)),
        *(f"fpn_p{i}" for i in range(2, 6)),
    }


def test_maps_are_smoothed_three_by_three_and_joined_one_by_one():
    sizes = {layer.name: layer.kernel_size for layer in pyramid().layers if layer.weights}
    assert {name: size for name, size in sizes.items() if size != (1, 1)} == {
        f"fpn_p{level}": (3, 3) for level in range(2, 6)
    }


def test_p6_is_every_other_cell_of_p5():
    p5, p6 = pyramid(side=128)([m for m in maps(128)])[3:]
    np.testing.assert_array_equal(p6, p5[:, ::2, ::2])


def test_a_level_depends_on_its_own_and_coarser_maps():
    model, inputs = pyramid(), maps()
    before = model(inputs)
    for changed in range(4):
        after = model([x + (i == changed) for i, x in enumerate(inputs)])
        differs = [not np.array_equal(a, b) for a, b in zip(before[:4], after[:4], strict=True)]
        assert differs == [level <= changed for level in range(4)]


def test_merging_is_adding_what_was_upsampled():
    model, inputs = pyramid(), maps()
    part = [model.get_layer(name).output for name in ("fpn_c5p5", "fpn_c4p4", "fpn_p4add")]
    above, lateral, merged = keras.Model(model.inputs, part)(inputs)
    up = np.repeat(np.repeat(np.asarray(above), 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(merged, up + np.asarray(lateral), atol=1e-6)
