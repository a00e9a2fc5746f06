"""visualize.py: what is drawn where, what is shown, what is written. Nothing here has a screen."""

import colorsys
import random
import sys
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle

from mrcnn import visualize
from mrcnn.geometry.masks import extract_bboxes

NAMES = ["BG", "cell", "speck"]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def shows(monkeypatch):
    """The calls of `plt.show`."""
    calls = []
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: calls.append(args))
    return calls


@pytest.fixture
def scene():
    """Grey image, masks and class ids: a ring that touches three borders, a pixel, a bar."""
    masks = np.zeros((60, 80, 3), bool)
    masks[:, :50, 0] = True
    masks[20:40, 15:35, 0] = False
    masks[5, 70, 1] = True
    masks[50:60, 60:80, 2] = True
    return np.full((60, 80, 3), 100, np.uint8), masks, np.array([1, 2, -1])


def instances(scene):
    image, masks, class_ids = scene
    return image, extract_bboxes(masks), masks, class_ids, NAMES


def new_axes(**kwargs):
    return Figure(**kwargs).add_axes((0, 0, 1, 1))


def patches_of(ax, kind):
    return [patch for patch in ax.patches if type(patch) is kind]


# ---- Painting into arrays -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_colors_are_the_hues_of_a_circle_in_an_order_that_stays(count):
    state = random.getstate()
    colors = visualize.random_colors(count)
    assert sorted(colors) == sorted(colorsys.hsv_to_rgb(i / count, 1, 1) for i in range(count))
    assert colors == visualize.random_colors(count)
    assert random.getstate() == state
    assert all(max(color) == 0.7 for color in visualize.random_colors(count, bright=False))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mask_is_blended_in_place(dtype):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 11, 3)).astype(dtype)
    mask, before, color = rng.random((9, 11)) > 0.5, image.copy(), (1.0, 0.25, 0.0)
    assert visualize.apply_mask(image, mask, color, alpha=0.3) is image
    for y, x in np.ndindex(9, 11):
        for c in range(3):
            blended = before[y, x, c] * (1 - 0.3) + 0.3 * color[c] * 255
            expected = dtype(blended) if mask[y, x] else before[y, x, c]
            assert image[y, x, c] == pytest.approx(expected, abs=1e-4)


def test_an_empty_mask_leaves_the_image_and_another_size_is_refused():
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    before = image.copy()
    visualize.apply_mask(image, np.zeros((9, 11), bool), (1, 1, 1))
    np.testing.assert_array_equal(image, before)
    with pytest.raises(ValueError, match=r"\(11, 9\) do not fit an image of shape \(9, 11, 3\)"):
        visualize.apply_mask(image, np.ones((11, 9), bool), (1, 1, 1))


def test_box_is_painted_two_pixels_wide_in_place():
    image = np.zeros((12, 12, 3), np.uint8)
    assert visualize.draw_box(image, np.array([2, 3, 8, 9]), [255, 0, 7]) is image
    painted = np.zeros((12, 12), bool)
    painted[2:4, 3:9] = painted[8:10, 3:9] = painted[2:8, 3:5] = painted[2:8, 9:11] = True
    np.testing.assert_array_equal(image[..., 0] == 255, painted)
    np.testing.assert_array_equal(image[..., 2] == 7, painted)


def test_a_box_that_leaves_the_image_is_painted_on_its_border():
    image = visualize.draw_box(np.zeros((10, 10, 1), np.uint8), (-4, -2, 40, 30), 9)[..., 0]
    for side in (image[:2], image[-2:], image[:, :2], image[:, -2:]):
        assert np.count_nonzero(side == 9) >= 16
    assert not image[3:7, 3:7].any()
    visualize.draw_box(np.zeros((1, 1, 3), np.uint8), (0, 0, 1, 1), 9)


# ---- Objects ------------------------------------------------------------------------------------


def test_every_object_has_outline_box_and_caption(scene):
    image, boxes, masks, class_ids, names = instances(scene)
    ax = new_axes()
    drawn = visualize.draw_instances(
        ax, image, boxes, masks, class_ids, names, np.array([0.9, 0.85, 1]), title="t"
    )
    assert drawn is ax and ax.get_title() == "t"
    assert len(patches_of(ax, PathPatch)) == 3
    # Axes count from the centre of the first pixel, boxes from its corner.
    corners = {(patch.get_x() + 0.5, patch.get_y() + 0.5) for patch in patches_of(ax, Rectangle)}
    assert corners == {(x1, y1) for y1, x1, _, _ in boxes}
    captions = {text.get_text() for text in ax.texts}
    assert captions == {"cell 0.90", "speck 0.85", "cell (crowd) 1.00"}
    assert (image == 100).all()


def test_boxes_masks_colors_and_captions_can_be_chosen(scene):
    ax = new_axes()
    colors = [(1, 0, 0), (0, 1, 0, 0.8), (0, 0, 1)]
    visualize.draw_instances(
        ax,
        *instances(scene),
        show_mask=False,
        show_bbox=False,
        colors=colors,
        captions=["a", "", None],
    )
    assert not patches_of(ax, Rectangle)
    outlines = patches_of(ax, PathPatch)
    assert {outline.get_edgecolor()[:3] for outline in outlines} == {c[:3] for c in colors}
    assert {outline.get_facecolor()[3] for outline in outlines} == {0}
    assert [text.get_text() for text in ax.texts] == ["a"]


@pytest.mark.parametrize("as_given", [list, np.array], ids=["list", "array"])
def test_of_more_colors_captions_and_scores_than_objects_the_first_are_taken(scene, as_given):
    colors = as_given([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)])
    captions, scores = as_given(["a", "b", "c", "d"]), as_given([0.5, 0.6, 0.7, 0.8])
    ax = visualize.draw_instances(new_axes(), *instances(scene), colors=colors, captions=captions)
    edges = {patch.get_edgecolor()[:3] for patch in patches_of(ax, PathPatch)}
    assert edges == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
    assert {text.get_text() for text in ax.texts} == {"a", "b", "c"}
    ax = visualize.draw_instances(new_axes(), *instances(scene), scores=scores)
    assert {text.get_text() for text in ax.texts} == {
        "cell 0.50",
        "speck 0.60",
        "cell (crowd) 0.70",
    }


@pytest.mark.parametrize("none", [None, [], np.zeros((0, 3))], ids=["None", "list", "array"])
def test_no_colors_and_no_captions_are_those_of_the_default(scene, none):
    ax = visualize.draw_instances(new_axes(), *instances(scene), colors=none, captions=none)
    usual = visualize.draw_instances(new_axes(), *instances(scene))
    assert [text.get_text() for text in ax.texts] == [text.get_text() for text in usual.texts]
    assert [patch.get_edgecolor() for patch in ax.patches] == [
        patch.get_edgecolor() for patch in usual.patches
    ]


def test_padding_and_masks_without_pixels_are_not_drawn(scene):
    image, masks, class_ids = scene
    boxes = extract_bboxes(masks)
    boxes[1] = 0
    masks[..., 2] = False
    ax = visualize.draw_instances(new_axes(), image, boxes, masks, class_ids, NAMES)
    assert len(patches_of(ax, PathPatch)) == 1  # the ring
    assert len(patches_of(ax, Rectangle)) == len(ax.texts) == 2


def test_no_objects_are_said_in_the_title(scene, capsys):
    nothing = (np.zeros((0, 4), int), np.zeros((60, 80, 0), bool), np.zeros(0, int), NAMES)
    ax = visualize.draw_instances(new_axes(), scene[0], *nothing)
    assert ax.get_title() == "No objects"
    assert not ax.texts and not ax.patches
    ax = visualize.draw_instances(new_axes(), scene[0], *nothing, title="mine")
    assert ax.get_title() == "mine"
    assert capsys.readouterr().out == ""


IMAGES = {
    "grey": np.full((60, 80), 51, np.uint8),
    "one channel": np.full((60, 80, 1), 51, np.uint8),
    "three channels": np.full((60, 80, 3), 51, np.uint8),
    "floats to 1": np.full((60, 80, 3), 0.2) + np.eye(60, 80)[..., None] * 0.8,
    "floats to 255": np.full((60, 80), 51.0),
    "16 bits": np.full((60, 80), 13107, np.uint16) + np.eye(60, 80, dtype=np.uint16) * 52428,
    "not a number": np.where(np.eye(60, 80, 5), np.nan, 51.0),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_any_kind_are_drawn_alike(scene, kind):
    _, *rest = instances(scene)
    ax = visualize.draw_instances(new_axes(), IMAGES[kind], *rest)
    shown = np.asarray(ax.images[0].get_array())
    assert shown.shape == (60, 80, 3) and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[50, 10], [51, 51, 51])


def test_captions_stay_in_the_picture_and_off_each_other():
    """Two objects at the same place and one at each corner; neither caption covers another."""
    boxes = np.array(
        [[40, 30, 50, 40], [40, 30, 50, 40]]
        + [[y, x, y + 5, x + 4] for y in (0, 95) for x in (0, 96)]
    )
    masks = np.zeros((100, 100, 6), bool)
    ax = new_axes(figsize=(10, 10))
    image = np.zeros((100, 100), np.uint8)
    visualize.draw_instances(ax, image, boxes, masks, np.ones(6, int), NAMES, np.ones(6))
    written = [text.get_window_extent() for text in ax.texts]
    assert len(written) == 6
    picture = ax.get_window_extent().padded(2)
    for i, extent in enumerate(written):
        assert picture.contains(*extent.min) and picture.contains(*extent.max)
        assert not any(extent.overlaps(other) for other in written[:i])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 12), width=st.integers(1, 12))
def test_outlines_hold_their_mask(seed, height, width):
    """A pixel's centre lies inside the outline if, and only if, the mask is set there."""
    from matplotlib.path import Path

    mask = np.random.default_rng(seed).random((height, width)) > 0.4
    points = np.stack(np.nonzero(np.ones_like(mask))[::-1], axis=1)
    inside = np.zeros(len(points), int)
    for ring in visualize._outlines(mask):
        np.testing.assert_array_equal(ring[0], ring[-1])
        inside += Path(ring).contains_points(points)
    np.testing.assert_array_equal(inside.reshape(mask.shape) % 2, mask)


def test_sizes_that_disagree_and_ids_without_a_name_are_named(scene):
    image, boxes, masks, class_ids, names = instances(scene)

    def draw(image=image, boxes=boxes, masks=masks, class_ids=class_ids, **kwargs):
        visualize.draw_instances(new_axes(), image, boxes, masks, class_ids, names, **kwargs)

    with pytest.raises(ValueError, match=r"boxes \(2, 4\), masks \(60, 80, 3\), class_ids \(3,\)"):
        draw(boxes=boxes[:2])
    with pytest.raises(ValueError, match=r"masks \(60, 80, 2\)"):
        draw(masks=masks[..., :2])
    for name in ("scores", "captions", "colors"):
        with pytest.raises(ValueError, match=f"{name} holds 2 of the 3 that are needed"):
            draw(**{name: [1, 1]})
    with pytest.raises(ValueError, match=r"masks of shape \(50, 80, 3\).*\(60, 80, 3\)"):
        draw(masks=masks[:50])
    with pytest.raises(ValueError, match="class id 3 has no name: class_names holds 3"):
        draw(class_ids=np.array([1, 3, 1]))
    with pytest.raises(ValueError, match=r"image of shape \(60, 80, 5\) cannot be drawn"):
        draw(image=np.zeros((60, 80, 5)))


# ---- Showing and saving -------------------------------------------------------------------------


def test_display_shows_its_own_figure_only(scene, shows):
    ax = visualize.display_instances(*instances(scene), figsize=(4, 3))
    assert len(shows) == 1
    assert ax.figure is plt.gcf() and tuple(ax.figure.get_size_inches()) == (4, 3)
    given = new_axes()
    assert visualize.display_instances(*instances(scene), ax=given) is given
    assert len(shows) == 1


def test_display_without_a_screen_neither_warns_nor_fails(scene, monkeypatch):
    # With a DISPLAY set and a backend that draws files, matplotlib warns that it cannot show.
    monkeypatch.setenv("DISPLAY", ":0")
    visualize.display_instances(*instances(scene))
    visualize.display_images([scene[0]])


def test_a_saved_picture_has_the_masks_colors_and_keeps_holes_free(scene, tmp_path):
    image, masks, class_ids = scene
    result = {"rois": extract_bboxes(masks), "masks": masks, "class_ids": class_ids}
    path = tmp_path / "new" / "picture.png"
    visualize.save_instances(path, image, result, NAMES)
    picture = plt.imread(path)[..., :3]
    assert picture.shape == (900, 1200, 3)
    assert [p.name for p in path.parent.iterdir()] == ["picture.png"]
    assert not plt.get_fignums()

    def color_at(y, x):
        return picture[int((y + 0.5) * 15), int((x + 0.5) * 15)]

    np.testing.assert_allclose(color_at(30, 25), 100 / 255, atol=0.01)  # the ring's hole
    np.testing.assert_allclose(color_at(30, 60), 100 / 255, atol=0.01)  # beside the ring
    for y, x in ((30, 5), (55, 20), (55, 70)):
        assert np.ptp(color_at(y, x)) > 0.2, (y, x)


@pytest.mark.parametrize("shape", [(1, 1), (7, 1500, 3), (300, 200, 1)])
def test_saved_pictures_are_large_enough_and_take_their_format_from_the_name(shape, tmp_path):
    nothing = {"rois": np.zeros((0, 4), int), "masks": np.zeros((*shape[:2], 0), bool)}
    nothing |= {"class_ids": np.zeros(0, int), "scores": np.zeros(0)}
    path = tmp_path / "picture.jpg"
    path.write_text("an older one")
    visualize.save_instances(path, np.zeros(shape, np.uint8), nothing, NAMES, title="Nothing")
    assert path.read_bytes()[:2] == b"\xff\xd8"
    height, width = plt.imread(path).shape[:2]
    assert max(height, width) >= max(1200, *shape[:2])


def test_differences_caption_score_and_overlap_of_the_same_prediction(shows):
    def squares(boxes):
        masks = np.zeros((50, 50, len(boxes)), bool)
        for i, (y1, x1, y2, x2) in enumerate(boxes):
            masks[y1:y2, x1:x2, i] = True
        return masks

    gt = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])
    pred = np.array([[20, 20, 30, 28], [0, 0, 0, 0], [0, 0, 10, 10], [40, 40, 50, 50]])
    ax = visualize.display_differences(
        np.zeros((50, 50, 3), np.uint8),
        gt,
        np.array([1, 1]),
        squares(gt),
        pred,
        np.array([1, 0, 1, 2]),
        np.array([0.6, 0.0, 0.9, 0.7]),
        squares(pred),
        NAMES,
    )
    captions = {text.get_text() for text in ax.texts}
    assert captions == {"0.60 / 0.80", "0.90 / 1.00", "0.70 / 0.00"}
    edges = [patch.get_edgecolor()[:3] for patch in patches_of(ax, PathPatch)]
    assert edges.count((0, 1, 0)) == 2 and edges.count((1, 0, 0)) == 3
    assert "GT=green" in ax.get_title() and len(shows) == 1


@pytest.mark.parametrize("gt_count, pred_count", [(0, 0), (0, 2), (2, 0)])
def test_differences_of_nothing(gt_count, pred_count):
    boxes, masks = np.array([[0, 0, 9, 9], [5, 5, 20, 20]]), np.ones((20, 20, 2), bool)
    gt = boxes[:gt_count], np.ones(gt_count, int), masks[..., :gt_count]
    pred = np.ones(pred_count, int), np.ones(pred_count), masks[..., :pred_count]
    ax = visualize.display_differences(
        np.zeros((20, 20)), *gt, boxes[:pred_count], *pred, NAMES, ax=new_axes()
    )
    assert len(patches_of(ax, Rectangle)) == gt_count + pred_count


# ---- Many images --------------------------------------------------------------------------------


def test_images_are_shown_in_a_grid(shows):
    images = [np.zeros((4, 5, 3)), np.eye(6), np.ones((3, 3, 1), bool), np.zeros((9, 9, 3), int)]
    axes = visualize.display_images(images, titles="abcd", cols=3)
    assert [ax.get_title() for ax in axes] == list("abcd")
    rows, columns, *_ = axes[0].get_subplotspec().get_geometry()
    assert (rows, columns) == (2, 3)
    np.testing.assert_array_equal(axes[1].images[0].get_array(), np.eye(6))
    assert len(shows) == 1
    assert visualize.display_images([]) == []
    assert [ax.get_title() for ax in visualize.display_images(images[:2], "xyz")] == ["x", "y"]
    with pytest.raises(ValueError, match="titles holds 1 of the 4 that are needed"):
        visualize.display_images(images, titles=["a"])


def test_top_masks_come_by_area(scene, shows):
    image, masks, _ = scene
    class_ids = np.array([2, 1, 1])
    axes = visualize.display_top_masks(image, masks, class_ids, NAMES, limit=3)
    assert [ax.get_title() for ax in axes] == ["H x W=60x80", "speck", "cell", "-"]
    cells = np.asarray(axes[2].images[0].get_array())
    assert cells[5, 70] == 1 and cells[55, 70] == 2 and cells[0, 0] == 0
    with pytest.raises(ValueError, match=r"mask \(60, 80, 3\), class_ids \(2,\)"):
        visualize.display_top_masks(image, masks, class_ids[:2], NAMES)


# ---- Inside the network -------------------------------------------------------------------------


def test_rois_are_drawn_as_they_were_and_as_they_became(scene, shows):
    rois = np.array([[0, 0, 20, 20], [10, 10, 30, 40], [30, 30, 50, 60]])
    ax = visualize.draw_rois(
        scene[0], rois, rois + 2, np.ones((3, 28, 28)), np.array([1, 0, 2]), NAMES
    )
    assert "3 random ROIs out of 3" in ax.get_title()
    assert "2 positive, 1 negative" in ax.get_title()
    assert len(patches_of(ax, Rectangle)) == 3 + 2
    assert len(patches_of(ax, PathPatch)) == 2
    assert {text.get_text() for text in ax.texts} == {"cell", "speck"}
    few = visualize.draw_rois(
        scene[0], rois, rois, np.ones((3, 28, 28)), np.zeros(3, int), NAMES, limit=2
    )
    assert len(patches_of(few, Rectangle)) == 2
    assert not shows


def test_boxes_before_and_after_refinement(scene, shows):
    boxes = np.array([[0, 0, 20, 20], [10, 10, 30, 40], [30, 30, 50, 60]])
    ax = new_axes()
    drawn = visualize.draw_boxes(
        scene[0],
        boxes,
        boxes + 1,
        masks=scene[1],
        captions=["a", "b", ""],
        visibilities=[0, 1, 2],
        title="boxes",
        ax=ax,
    )
    assert drawn is ax and ax.get_title() == "boxes"
    # The one of visibility 0 is grey and its refinement hidden.
    assert len(patches_of(ax, Rectangle)) == 3 + 2
    assert patches_of(ax, Rectangle)[0].get_edgecolor()[:3] == visualize.GRAY
    assert {text.get_text() for text in ax.texts} == {"a", "b"}
    for only in ({"boxes": boxes}, {"refined_boxes": boxes}, {"boxes": boxes[:0]}):
        drawn = visualize.draw_boxes(scene[0], **only)
        assert len(patches_of(drawn, Rectangle)) == len(*only.values())
    with pytest.raises(ValueError, match="it got neither"):
        visualize.draw_boxes(scene[0])
    more = visualize.draw_boxes(scene[0], boxes, captions="abcd", visibilities=[1, 1, 1, 0, 0])
    assert {text.get_text() for text in more.texts} == {"a", "b", "c"}
    for name in ("captions", "visibilities"):
        with pytest.raises(ValueError, match=f"{name} holds 2 of the 3 that are needed"):
            visualize.draw_boxes(scene[0], boxes, **{name: [1, 2]})
    assert not shows


def test_weights_are_listed_and_odd_ones_flagged(capsys):
    import keras

    inputs = keras.Input((4, 4, 3))
    rpn = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 1, name="rpn_class")])
    outputs = keras.layers.TimeDistributed(keras.layers.Dense(2), name="head")(rpn(inputs))
    model = keras.Model(inputs, outputs)
    kernels = {weight.path: weight for weight in model.weights if weight.name == "kernel"}
    dead, large = sorted(kernels, key=lambda path: "head" in path)
    kernels[dead].assign(np.zeros(kernels[dead].shape))
    kernels[large].assign(np.linspace(-2000, 1, 4).reshape(2, 2))
    for thing in (model, types.SimpleNamespace(keras_model=model)):
        visualize.display_weight_stats(thing)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["WEIGHT", "NAME", "SHAPE", "MIN", "MAX", "STD"]
        assert len(lines) == 1 + 4
        flagged = {line.split("***")[0].strip(): line for line in lines if "***" in line}
        assert set(flagged) == {dead, large}
        assert "dead?" in flagged[dead] and "overflow?" in flagged[large]
        assert "-2000.0000" in flagged[large]


# ---- Curves and tables --------------------------------------------------------------------------


def test_precision_is_plotted_over_recall(shows):
    precisions, recalls = np.array([1, 1, 0.5, 0]), np.array([0, 0.5, 1, 1])
    ax = visualize.plot_precision_recall(0.75, precisions, recalls)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), np.stack([recalls, precisions], 1))
    assert "0.750" in ax.get_title() and not shows


def test_overlaps_say_match_or_wrong(shows):
    overlaps = np.array([[0.9, 0.1], [0.2, 0.7], [0.0, 0.3]])
    ax = visualize.plot_overlaps(
        np.array([1, 2, 0]), np.array([1, 1, 2, 0]), np.array([0.9, 0.8, 0.7]), overlaps, NAMES
    )
    cells = [text.get_text() for text in ax.texts]
    assert cells == ["0.90\nmatch", "0.10", "0.20", "0.70\nwrong", "0.00", "0.30"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cell", "speck"]
    assert [label.get_text() for label in ax.get_yticklabels()][2] == "speck (0.70)"
    with pytest.raises(ValueError, match="pred_scores holds 2 of the 3 that are needed"):
        visualize.plot_overlaps(np.array([1, 1]), np.array([1, 1, 1]), [0.9, 0.8], overlaps, NAMES)
    assert not shows


def test_table_is_aligned_text(capsys):
    visualize.display_table([["name", "size"], ["a long name", 3], ["b", (1, 2)]])
    assert capsys.readouterr().out == "name         size\na long name  3\nb            (1, 2)\n"
    visualize.display_table([])


def test_table_is_html_in_a_notebook(monkeypatch, capsys):
    displayed = []
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    display = types.SimpleNamespace(HTML=lambda text: text, display=displayed.append)
    ipython = types.SimpleNamespace(get_ipython=lambda: shell, display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    visualize.display_table([["a<b", 1]])
    assert displayed == ["<table><tr><td>a&lt;b</td><td>1</td></tr></table>"]
    assert capsys.readouterr().out == ""
