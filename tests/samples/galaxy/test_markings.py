"""samples/galaxy/markings.py: votes against slow simple code; files are read, refused, written."""

import json
import os

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.data.dataset import read_image
from mrcnn.data.formats.table import TableDataset
from samples.galaxy import markings as m

FRAME = 100
SQUARE = [[10, 10], [40, 10], [40, 40], [10, 40]]


def galaxy(*volunteers, object_id="g", size=FRAME):
    return {"object_id": object_id, "size": size, "volunteers": list(volunteers)}


def only(name, *polygons):
    return {name: list(polygons)}


# Irrational corners, so that no edge meets a pixel's centre; some outside.
CORNER = st.tuples(st.integers(-30, 130), st.integers(-30, 130)).map(
    lambda corner: [corner[0] + 0.1 * 2**0.5, corner[1] + 0.1 * 3**0.5]
)
POLYGON = st.lists(CORNER, min_size=3, max_size=7)
VOLUNTEER = st.lists(POLYGON, max_size=3).map(lambda polygons: {"spiral": polygons})
VOLUNTEERS = st.lists(VOLUNTEER, min_size=1, max_size=5)


def is_inside(x, y, polygon):
    """Even-odd rule, edge by edge."""
    inside = False
    for (x1, y1), (x2, y2) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            inside = not inside
    return inside


def slow_votes(volunteers, name, frame, size):
    votes = np.zeros((size, size), int)
    for row in range(size):
        for column in range(size):
            x, y = (column + 0.5) * frame / size, (row + 0.5) * frame / size
            votes[row, column] = sum(
                any(is_inside(x, y, polygon) for polygon in volunteer.get(name, []))
                for volunteer in volunteers
            )
    return votes


def slow_components(mask, min_area):
    """Flood fill over eight neighbours."""
    left = {tuple(p) for p in np.argwhere(mask)}
    found = []
    while left:
        todo, part = [min(left)], set()
        while todo:
            y, x = todo.pop()
            if (y, x) in left:
                left.remove((y, x))
                part.add((y, x))
                todo += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        if len(part) >= min_area:
            found.append(part)
    return sorted(sorted(part) for part in found)


def pixels_of(masks):
    return sorted(sorted(map(tuple, np.argwhere(masks[:, :, i]))) for i in range(masks.shape[2]))


# ---- Votes -------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(VOLUNTEERS, st.integers(1, 5), st.integers(1, 40))
def test_masks_are_those_of_a_slow_twin(volunteers, min_votes, min_area):
    min_votes = min(min_votes, len(volunteers))
    votes = slow_votes(volunteers, "spiral", FRAME, 20)
    np.testing.assert_array_equal(m.count_votes(galaxy(*volunteers), 20)["spiral"], votes)
    masks, class_ids = m.markings_to_masks(galaxy(*volunteers), 20, min_votes, min_area)
    assert pixels_of(masks) == slow_components(votes >= min_votes, min_area)
    assert masks.dtype == bool and class_ids.dtype == np.int32
    assert class_ids.tolist() == [m.LABELS["spiral"]] * masks.shape[2]


@settings(max_examples=30, deadline=None)
@given(VOLUNTEERS)
def test_one_vote_is_the_union_and_all_votes_the_intersection(volunteers):
    each = [m.fill_polygons(v["spiral"], FRAME, 50) for v in volunteers]
    for min_votes, expected in ((1, np.any(each, axis=0)), (len(each), np.all(each, axis=0))):
        masks, _ = m.markings_to_masks(galaxy(*volunteers), 50, min_votes, min_area=1)
        np.testing.assert_array_equal(masks.any(axis=-1), expected)
        assert masks.sum(axis=-1).max(initial=0) <= 1


@settings(max_examples=20, deadline=None)
@given(VOLUNTEERS, st.randoms(use_true_random=False))
def test_the_order_of_volunteers_and_polygons_does_not_matter(volunteers, random):
    shuffled = [{"spiral": random.sample(v["spiral"], len(v["spiral"]))} for v in volunteers]
    random.shuffle(shuffled)
    min_votes = (len(volunteers) + 1) // 2
    for one, other in zip(
        m.markings_to_masks(galaxy(*volunteers), 40, min_votes, 5),
        m.markings_to_masks(galaxy(*shuffled), 40, min_votes, 5),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_volunteer_has_one_vote_a_pixel_however_many_polygons():
    votes = m.count_votes(galaxy(only("bar", SQUARE, SQUARE, SQUARE), {}), FRAME)
    assert votes["bar"].max() == 1 and votes["bar"].sum() == 30 * 30
    assert votes["spiral"].max() == 0


def test_a_square_covers_its_pixels_at_any_scale():
    for size in (50, 100, 300):
        mask = m.fill_polygons([SQUARE], FRAME, size)
        expected = np.zeros((size, size), bool)
        expected[size // 10 : size * 4 // 10, size // 10 : size * 4 // 10] = True
        np.testing.assert_array_equal(mask, expected)


def test_what_leaves_the_frame_is_cut_off():
    beyond = [[-1e12, -1e12], [1e12, -1e12], [1e12, 1e12], [-1e12, 1e12]]
    assert m.fill_polygons([beyond], FRAME, 20).all()
    outside = [[150, 10], [180, 10], [180, 40]]
    assert not m.fill_polygons([outside], FRAME, 20).any()
    half = m.fill_polygons([[[-50, 20], [50, 20], [50, 60], [-50, 60]]], FRAME, 100)
    assert half.sum() == 50 * 40 and half[20:60, :50].all()


def test_of_a_bar_the_largest_component_is_kept():
    small, large = [[0, 0], [10, 0], [10, 10], [0, 10]], [[50, 50], [90, 50], [90, 60], [50, 60]]
    volunteer = {"bar": [small, large], "spiral": [small, large]}
    masks, class_ids = m.markings_to_masks(galaxy(volunteer), FRAME, 1, 1, ["bar"])
    assert class_ids.tolist() == [1, 2]
    assert masks[55, 70].tolist() == [False, True]  # the bar takes its pixels first
    masks, class_ids = m.markings_to_masks(galaxy(volunteer), FRAME, 1, 1, [])
    assert class_ids.tolist() == [1, 1]
    masks, class_ids = m.markings_to_masks(galaxy(volunteer), FRAME, 1, 200, ["bar"])
    assert class_ids.tolist() == [2] and masks[:, :, 0].sum() == 400


def test_an_arm_across_the_bar_becomes_one_at_either_end():
    arm = [[0, 45], [100, 45], [100, 55], [0, 55]]
    bar = [[40, 40], [60, 40], [60, 60], [40, 60]]
    masks, class_ids = m.markings_to_masks(
        galaxy({"spiral": [arm], "bar": [bar]}), FRAME, 1, min_area=10
    )
    assert class_ids.tolist() == [1, 1, 2]
    assert masks.sum(axis=(0, 1)).tolist() == [400, 400, 400]
    assert masks.sum(axis=-1).max() == 1


def test_nothing_marked_gives_no_masks():
    masks, class_ids = m.markings_to_masks(galaxy({}, {}), 32, 1, 1)
    assert masks.shape == (32, 32, 0) and class_ids.shape == (0,)


@pytest.mark.parametrize("min_votes", [0, 3])
def test_more_votes_than_volunteers_is_an_error(min_votes):
    with pytest.raises(ValueError, match=f"min_votes is {min_votes}, and galaxy g has 2 volunteer"):
        m.markings_to_masks(galaxy({}, {}), 32, min_votes, 1)


def test_an_unknown_class_to_keep_one_of_is_an_error():
    with pytest.raises(ValueError, match="one_instance_classes has 'ring'; classes are spiral, ba"):
        m.markings_to_masks(galaxy({}), 32, 1, 1, ["ring"])


# ---- JSON lines --------------------------------------------------------------------------------


def test_markings_survive_a_round_trip(tmp_path):
    galaxies = [
        galaxy(only("spiral", SQUARE), {}, object_id="J1"),
        galaxy({"spiral": [], "bar": [SQUARE]}, object_id="é 2", size=512.5) | {"survey": "x"},
    ]
    m.write_markings(tmp_path / "new" / "m.jsonl", galaxies)
    assert m.read_markings(tmp_path / "new" / "m.jsonl") == galaxies
    assert os.listdir(tmp_path / "new") == ["m.jsonl"]


def test_ids_become_text_and_empty_lines_are_passed_over(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text("\n" + json.dumps(galaxy({}, object_id=7)) + "\n\n", encoding="utf-8")
    assert [g["object_id"] for g in m.read_markings(path)] == ["7"]


GOOD = galaxy(only("bar", SQUARE))
BAD_LINES = [
    ("{", "is not JSON"),
    ("[" * 50_000, "nested too deeply"),
    ("9" * 5000, "is not JSON: Exceeds the limit"),
    (GOOD | {"object_id": "b", "size": 10**400}, "object b has size 1000.* …; it must be"),
    (galaxy(only("bar", [[1, 10**400]] * 3), object_id="b"), "of finite numbers"),
    ("[1]", "holds a JSON list; a galaxy is an object with object_id, size and volunteers"),
    ({}, "object_id is None"),
    (GOOD | {"object_id": "../../x"}, "object_id is '../../x'; it must be text or a whole number"),
    (GOOD | {"object_id": "b", "size": 0}, "object b has size 0; it must be a positive number"),
    (GOOD | {"object_id": "b", "size": True}, "has size True"),
    (GOOD | {"object_id": "b", "volunteers": []}, r"object b has volunteers \[\]"),
    (galaxy([], object_id="b"), r"object b, volunteer 0 is \[\]; it must be an object of classes"),
    (galaxy({}, {"ring": []}, object_id="b"), "volunteer 1 has the class 'ring'; classes are spir"),
    (galaxy({"bar": {}}, object_id="b"), "has 'bar': {}; it must be a list of polygons"),
    (galaxy(only("bar", SQUARE, SQUARE[:2]), object_id="b"), "has polygon 1 of 'bar' .*three poin"),
    (galaxy(only("bar", [[1, 2, 3]] * 3), object_id="b"), "has polygon 0 of 'bar'"),
    (galaxy(only("bar", [[1, float("nan")]] * 3), object_id="b"), "of finite numbers"),
    (galaxy(only("bar", [[1, "2"]] * 3), object_id="b"), "of finite numbers"),
    (GOOD, "object g is on line 1 already; each galaxy has one line"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_line_that_cannot_be_used_is_named(tmp_path, line, message):
    path = tmp_path / "m.jsonl"
    text = line if isinstance(line, str) else json.dumps(line)
    path.write_text(json.dumps(GOOD) + "\n" + text + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        m.read_markings(path)
    assert str(error.value).startswith(f"{path}, line 2")


def test_a_file_that_is_no_text_or_empty_or_missing_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        m.read_markings(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="holds no galaxy"):
        m.read_markings(path)
    with pytest.raises(FileNotFoundError, match="none.jsonl"):
        m.read_markings(tmp_path / "none.jsonl")


# ---- Files -------------------------------------------------------------------------------------


def two_galaxies():
    rng = np.random.default_rng(0)
    masks = np.zeros((30, 40, 2), bool)
    masks[5:9, 10:20, 0] = masks[12:25, 3:4, 1] = True
    images = rng.integers(0, 256, (2, 30, 40, 3), np.uint8)
    return [
        ("with two", images[0], masks, np.array([1, 2], np.int32)),
        ("bare", images[1], np.zeros((30, 40, 0), bool), np.zeros(0, np.int32)),
    ]


def files_in(folder):
    return sorted(os.path.relpath(p, folder) for p in folder.rglob("*") if p.is_file())


def load(folder):
    dataset = TableDataset()
    dataset.load_table(folder / m.TABLE, folder, classes=m.CLASSES)
    dataset.prepare()
    return dataset


def test_what_is_written_is_read_again(tmp_path):
    m.write_dataset(tmp_path, two_galaxies())
    assert files_in(tmp_path) == sorted(
        ["mask_labels.gzip"]
        + [os.path.join("masks", f"{i}_mask.png") for i in ("with two", "bare")]
        + [os.path.join("pngs", f"{i}.png") for i in ("with two", "bare")]
    )
    dataset = load(tmp_path)
    dataset.check()
    for image_id, (object_id, image, masks, class_ids) in enumerate(two_galaxies()):
        assert dataset.image_info[image_id]["id"] == object_id
        np.testing.assert_array_equal(dataset.load_image(image_id), image)
        read, read_ids = dataset.load_mask(image_id)
        np.testing.assert_array_equal(read_ids, class_ids)
        assert read.shape[-1] == masks.shape[-1]
        if masks.shape[-1]:
            np.testing.assert_array_equal(read, masks)


def test_the_table_has_the_last_pixel_of_a_box(tmp_path):
    import pandas

    m.write_dataset(tmp_path, two_galaxies())
    frame = pandas.read_parquet(tmp_path / m.TABLE)
    assert list(frame.columns) == [
        "object_id", "labels", "bbox_xmin", "bbox_ymin", "bbox_xmax", "bbox_ymax",
    ]  # fmt: skip
    assert frame["object_id"].tolist() == ["with two", "with two", "bare"]
    assert frame["labels"].tolist() == [1, 2, 0]
    boxes = frame.iloc[:, 2:].to_numpy()
    assert boxes[:2].tolist() == [[10, 5, 19, 8], [3, 12, 3, 24]] and np.isnan(boxes[2]).all()


def test_an_error_halfway_leaves_everything_as_it_was(tmp_path):
    def failing():
        yield from two_galaxies()
        raise RuntimeError("the disc is full")

    with pytest.raises(RuntimeError, match="the disc is full"):
        m.write_dataset(tmp_path, failing())
    assert files_in(tmp_path) == []
    m.write_dataset(tmp_path, two_galaxies())
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    changed = [(i, 255 - image, masks, ids) for i, image, masks, ids in two_galaxies()]
    overlapping = np.ones((30, 40, 2), bool)
    with pytest.raises(ValueError, match="object third has masks that overlap"):
        m.write_dataset(tmp_path, [*changed, ("third", None, overlapping, np.array([1, 1]))])
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == before


def test_galaxies_that_cannot_be_written_are_named(tmp_path):
    first = two_galaxies()[0]
    with pytest.raises(ValueError, match="object with two appears twice"):
        m.write_dataset(tmp_path, [first, first])
    with pytest.raises(ValueError, match="object_id is 'a/b'"):
        m.write_dataset(tmp_path, [("a/b", *first[1:])])
    with pytest.raises(ValueError, match="no galaxy to write"):
        m.write_dataset(tmp_path, [])
    assert files_in(tmp_path) == []
    with pytest.raises(ValueError, match="object g: mask 1 has no pixel"):
        m.label_image(np.eye(2, dtype=bool)[:, :, None] & [True, False], "g")
    with pytest.raises(ValueError, match="object g has 256 instances; a mask file holds up to 255"):
        m.label_image(np.zeros((4, 4, 256), bool), "g")


def test_label_images_hold_up_to_255_instances():
    masks = np.eye(256, dtype=bool)[:255].reshape(255, 16, 16).transpose(1, 2, 0)
    np.testing.assert_array_equal(
        m.label_image(masks, "g").ravel(), np.append(np.arange(1, 256), 0)
    )


@pytest.fixture
def prepared(tmp_path):
    """A folder with two pictures and the markings of three volunteers of each."""
    (tmp_path / "pngs").mkdir()
    for object_id, size in (("a", 50), ("b", 200)):
        PIL.Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(
            tmp_path / "pngs" / f"{object_id}.png"
        )
    galaxies = [
        galaxy(only("bar", SQUARE), only("bar", SQUARE), only("spiral", SQUARE), object_id="a"),
        galaxy({}, {}, only("spiral", SQUARE), object_id="b"),
    ]
    m.write_markings(tmp_path / m.MARKINGS, galaxies)
    return tmp_path


def test_prepare_writes_masks_of_the_pictures_size_and_the_table(prepared):
    picture = (prepared / "pngs" / "a.png").read_bytes()
    counts = m.prepare(prepared / m.MARKINGS, prepared, min_votes=2, min_area=10)
    assert counts == {"galaxies": 2, "nothing marked": 1, "spiral": 0, "bar": 1}
    assert (prepared / "pngs" / "a.png").read_bytes() == picture
    dataset = load(prepared)
    dataset.check()
    masks, class_ids = dataset.load_mask(0)
    assert masks.shape == (50, 50, 1) and class_ids.tolist() == [m.LABELS["bar"]]
    assert masks[5:20, 5:20].all() and masks.sum() == 15 * 15
    assert dataset.load_mask(1)[1].shape == (0,)
    with PIL.Image.open(prepared / "masks" / "b_mask.png") as mask:
        assert mask.size == (200, 200) and mask.mode == "L"


def test_prepare_names_pictures_that_cannot_be_used(prepared):
    def message(kind):
        with pytest.raises(kind) as error:
            m.prepare(prepared / m.MARKINGS, prepared, 2, 10)
        assert not (prepared / m.TABLE).exists() and not list(prepared.rglob("*.part*"))
        return str(error.value)

    picture = prepared / "pngs" / "b.png"
    PIL.Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(picture)
    assert message(ValueError).startswith(f"object b: {picture} has 60x50 pixels")
    picture.write_bytes(b"no picture")
    assert message(OSError) == f"object b: {picture} cannot be read as an image."
    picture.unlink()
    assert message(FileNotFoundError) == f"object b has no picture: {picture} does not exist."


# ---- Looking -----------------------------------------------------------------------------------


def test_outlines_surround_masks_in_their_classes_colours():
    _, image, masks, class_ids = two_galaxies()[0]
    drawn = m.outline(image, masks, class_ids)
    assert (drawn[5, 10:20] == m.COLORS[0]).all() and (drawn[12:25, 3] == m.COLORS[1]).all()
    inside = np.zeros(image.shape[:2], bool)
    inside[6:8, 11:19] = True
    unmarked = inside | ~masks.any(axis=-1)
    np.testing.assert_array_equal(drawn[unmarked], image[unmarked])


def test_overlays_are_written_for_the_images_asked_for(tmp_path):
    m.write_dataset(tmp_path / "data", two_galaxies())
    dataset = load(tmp_path / "data")
    m.draw_overlays(dataset, tmp_path / "some", [1])
    assert files_in(tmp_path / "some") == ["bare.png"]
    m.draw_overlays(dataset, tmp_path / "all")
    assert files_in(tmp_path / "all") == ["bare.png", "with two.png"]
    drawn = read_image(tmp_path / "all" / "with two.png")
    assert drawn.shape == (30, 80, 3)
    np.testing.assert_array_equal(drawn[:, :40], two_galaxies()[0][1])
    assert (drawn[5, 50:60] == m.COLORS[0]).all()


def test_a_contact_sheet_has_all_images():
    images = [np.full((4, 5, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = m.contact_sheet(images, columns=2)
    assert sheet.shape == (12, 14, 3)
    assert [sheet[2, 3, 0], sheet[2, 10, 0], sheet[8, 3, 0], sheet[8, 10, 0]] == [10, 20, 30, 0]
