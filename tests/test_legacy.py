"""The original's signatures: layers that take a Config, functions of one image, every parameter."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import mrcnn.config
import mrcnn.model
import mrcnn.parallel_model
import mrcnn.utils
import mrcnn.visualize
from mrcnn import legacy, losses
from mrcnn.config import Config
from mrcnn.geometry import boxes
from mrcnn.nn import detections, proposals, sampling
from tests.layer_contract import check_layer

RNG = np.random.default_rng(0)


class Small(Config):
    NUM_CLASSES = 4
    PRE_NMS_LIMIT = 20
    RPN_BBOX_STD_DEV = np.array([0.2, 0.2, 0.4, 0.4])
    BBOX_STD_DEV = np.array([0.3, 0.3, 0.1, 0.1])
    TRAIN_ROIS_PER_IMAGE = 8
    ROI_POSITIVE_RATIO = 0.5
    USE_MINI_MASK = False
    MASK_SHAPE = [6, 6]
    DETECTION_MAX_INSTANCES = 5
    DETECTION_MIN_CONFIDENCE = 0.4
    DETECTION_NMS_THRESHOLD = 0.5


def numbers(*shape):
    return RNG.random(shape).astype(np.float32)


def some_boxes(*shape):
    corner = numbers(*shape, 2) * 0.6
    return np.concatenate([corner, corner + 0.1 + 0.3 * numbers(*shape, 2)], axis=-1)


def rpn_outputs():
    return [numbers(2, 30, 2), numbers(2, 30, 4), some_boxes(2, 30)]


def head_outputs():
    probs = RNG.dirichlet(np.full(4, 0.2), (2, 12)).astype(np.float32)
    meta = np.zeros((2, 16), np.float32)
    meta[:, 4:7], meta[:, 7:11] = [65, 65, 3], [0, 0, 65, 65]
    return [some_boxes(2, 12), probs, numbers(2, 12, 4, 4), meta]


def ground_truth():
    objects = some_boxes(2, 3)
    near = np.repeat(objects, 4, axis=1) + 0.02 * numbers(2, 12, 4)
    ids = np.array([[1, 2, 0], [3, 0, 0]], np.int32)
    return [near, ids, objects, RNG.random((2, 32, 32, 3)) > 0.5]


def same(found, wanted):
    for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(wanted), strict=True):
        one, other = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        np.testing.assert_allclose(one, other, atol=1e-6)


# ---- Layers that take a Config -------------------------------------------------------------------


def test_proposal_layer_takes_its_settings_from_a_config():
    inputs = rpn_outputs()
    layer = legacy.ProposalLayer(6, 0.7, config=Small(), name="ROI")
    wanted = proposals.ProposalLayer(6, 0.7, pre_nms_limit=20, bbox_std_dev=[0.2, 0.2, 0.4, 0.4])
    same(layer(inputs), wanted(inputs))
    check_layer(layer, inputs)


def test_detection_layer_takes_its_settings_from_a_config():
    inputs = head_outputs()
    layer = legacy.DetectionLayer(Small(), name="mrcnn_detection")
    wanted = detections.DetectionLayer(5, 0.4, 0.5, [0.3, 0.3, 0.1, 0.1])
    same(layer(inputs), wanted(inputs))
    check_layer(layer, inputs)


def test_detection_target_layer_takes_its_settings_from_a_config():
    inputs = ground_truth()
    layer = legacy.DetectionTargetLayer(Small(), name="proposal_targets", seed=3)
    wanted = sampling.DetectionTargetLayer(8, 0.5, (6, 6), False, [0.3, 0.3, 0.1, 0.1], seed=3)
    same(layer(inputs), wanted(inputs))
    check_layer(layer, inputs, images_apart=False)


# ---- One image at a time -------------------------------------------------------------------------


def test_refine_detections_graph_is_the_layer_on_one_image():
    rois, probs, deltas, meta = head_outputs()
    batch = legacy.DetectionLayer(Small())([rois, probs, deltas, meta])
    window = np.array([0, 0, 1, 1], np.float32)
    for image in range(2):
        found = legacy.refine_detections_graph(
            rois[image], probs[image], deltas[image], window, Small()
        )
        same(found, batch[image])


def test_detection_targets_graph_is_the_layer_on_one_image():
    inputs = ground_truth()
    for image in range(2):
        one = [x[image] for x in inputs]
        rois, class_ids, deltas, masks = map(
            ops.convert_to_numpy, legacy.detection_targets_graph(*one, Small())
        )
        assert rois.shape == deltas.shape == (8, 4) and masks.shape == (8, 6, 6)
        positive = class_ids > 0
        assert 0 < positive.sum() <= 4
        assert set(class_ids[positive]) <= set(one[1]) - {0}
        overlaps = boxes.compute_overlaps(rois[positive], one[2])
        nearest = one[2][(overlaps * (one[1] > 0)).argmax(axis=1)]
        wanted = boxes.box_refinement(rois[positive], nearest) / Small.BBOX_STD_DEV
        np.testing.assert_allclose(deltas[positive], wanted, atol=1e-4)


# ---- Functions -----------------------------------------------------------------------------------


def test_batch_slice_stacks_what_a_function_gives_for_each_image():
    a, b = numbers(3, 4), numbers(3, 4)
    total = mrcnn.utils.batch_slice([a, b], lambda x, y: x + y, 3)
    same(total, a + b)
    both = mrcnn.utils.batch_slice((a, b), lambda x, y: (x + y, x * y), 3, names=["sum", "product"])
    same(both, [a + b, a * b])
    same(mrcnn.utils.batch_slice(a, lambda x: 2 * x, 2), 2 * a[:2])


def test_batch_slice_of_symbols():
    image = keras.Input((4,), batch_size=2)
    doubled = mrcnn.utils.batch_slice([image], lambda x: 2 * x, 2)
    assert doubled.shape == (2, 4)
    x = numbers(2, 4)
    same(keras.Model(image, doubled)(x), 2 * x)


def test_trim_zeros_graph():
    rows = np.array([[0, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0], [-1, 1, 0, 0]], np.float32)
    trimmed, there = mrcnn.model.trim_zeros_graph(ops.convert_to_tensor(rows), name="trim")
    same([trimmed, there], [rows[[1, 3]], np.array([False, True, False, True])])


def test_batch_pack_graph():
    x = numbers(3, 4, 2)
    packed = mrcnn.model.batch_pack_graph(ops.convert_to_tensor(x), np.array([2, 0, 4]), 3)
    same(packed, np.concatenate([x[0, :2], x[2]]))


def test_small_functions():
    one, other = some_boxes(3), some_boxes(2)
    same(mrcnn.model.overlaps_graph(one, other), boxes.compute_overlaps(one, other))
    same(mrcnn.model.log2_graph(np.array([1.0, 8.0], np.float32)), np.array([0.0, 3.0]))
    target, predicted = numbers(2, 3, 4), numbers(2, 5, 4)
    match = np.array([[[1], [0], [-1], [1], [0]]] * 2, np.int32)
    target, match, predicted = map(ops.convert_to_tensor, (target, match, predicted))
    same(
        mrcnn.model.rpn_bbox_loss_graph(Small(), target, match, predicted),
        losses.rpn_bbox_loss(target, match, predicted),
    )


def test_a_download_that_fails_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(legacy, "COCO_MODEL_URL", (tmp_path / "absent.h5").as_uri())
    path = tmp_path / "deep" / "coco.h5"
    with pytest.raises(OSError, match="absent.h5.*coco.h5"):
        mrcnn.utils.download_trained_weights(path, verbose=0)
    assert not list(path.parent.iterdir())


def test_a_download_arrives_whole(tmp_path, monkeypatch, capsys):
    source = tmp_path / "there.h5"
    source.write_bytes(b"weights")
    monkeypatch.setattr(legacy, "COCO_MODEL_URL", source.as_uri())
    mrcnn.utils.download_trained_weights(str(tmp_path / "coco.h5"))
    assert (tmp_path / "coco.h5").read_bytes() == b"weights"
    assert "coco.h5" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco.h5", "there.h5"]


# ---- ParallelModel -------------------------------------------------------------------------------


def test_parallel_model_is_the_model():
    image = keras.Input((3,))
    inner = keras.Model(image, keras.layers.Dense(2, name="dense")(image))
    model = mrcnn.parallel_model.ParallelModel(inner, gpu_count=2)
    x = numbers(4, 3)
    same(model(x), inner(x))
    assert [layer.name for layer in model.layers] == [layer.name for layer in inner.layers]
    assert len(model.weights) == len(inner.weights) == 2
    assert all(a is b for a, b in zip(model.weights, inner.weights, strict=True))
    model.compile(optimizer="sgd", loss="mse")
    before = ops.convert_to_numpy(inner.get_layer("dense").kernel)
    model.train_on_batch(x, np.ones((4, 2), np.float32))
    assert not np.array_equal(before, ops.convert_to_numpy(inner.get_layer("dense").kernel))


def test_parallel_model_takes_and_gives_what_the_model_does():
    inputs = [keras.Input((3,), name="a"), keras.Input((3,), name="b")]
    inner = keras.Model(inputs, {"sum": inputs[0] + inputs[1], "product": inputs[0] * inputs[1]})
    model = mrcnn.parallel_model.ParallelModel(inner, gpu_count=2)
    x = [numbers(4, 3), numbers(4, 3)]
    outputs = model.predict_on_batch(x)
    assert outputs.keys() == {"sum", "product"}
    same(outputs["product"], x[0] * x[1])


# ---- Signatures ----------------------------------------------------------------------------------

# The original's functions and methods with their parameters, in order; self is left out.
SIGNATURES = {
    mrcnn.model: """
        log(text, array)
        compute_backbone_shapes(config, image_shape)
        identity_block(input_tensor, kernel_size, filters, stage, block, use_bias, train_bn)
        conv_block(input_tensor, kernel_size, filters, stage, block, strides, use_bias, train_bn)
        resnet_graph(input_image, architecture, stage5, train_bn)
        apply_box_deltas_graph(boxes, deltas)
        clip_boxes_graph(boxes, window)
        ProposalLayer(proposal_count, nms_threshold, config)
        log2_graph(x)
        PyramidROIAlign(pool_shape)
        overlaps_graph(boxes1, boxes2)
        detection_targets_graph(proposals, gt_class_ids, gt_boxes, gt_masks, config)
        DetectionTargetLayer(config)
        refine_detections_graph(rois, probs, deltas, window, config)
        DetectionLayer(config)
        BatchNorm.call(inputs, training)
        ProposalLayer.call(inputs)
        PyramidROIAlign.call(inputs)
        DetectionTargetLayer.call(inputs)
        DetectionLayer.call(inputs)
        ProposalLayer.compute_output_shape(input_shape)
        PyramidROIAlign.compute_output_shape(input_shape)
        DetectionTargetLayer.compute_output_shape(input_shape)
        DetectionLayer.compute_output_shape(input_shape)
        rpn_graph(feature_map, anchors_per_location, anchor_stride)
        build_rpn_model(anchor_stride, anchors_per_location, depth)
        fpn_classifier_graph(rois, feature_maps, image_meta, pool_size, num_classes, train_bn,
            fc_layers_size)
        build_fpn_mask_graph(rois, feature_maps, image_meta, pool_size, num_classes, train_bn)
        smooth_l1_loss(y_true, y_pred)
        rpn_class_loss_graph(rpn_match, rpn_class_logits)
        rpn_bbox_loss_graph(config, target_bbox, rpn_match, rpn_bbox)
        mrcnn_class_loss_graph(target_class_ids, pred_class_logits, active_class_ids)
        mrcnn_bbox_loss_graph(target_bbox, target_class_ids, pred_bbox)
        mrcnn_mask_loss_graph(target_masks, target_class_ids, pred_masks)
        load_image_gt(dataset, config, image_id, augment, augmentation, use_mini_mask)
        build_detection_targets(rpn_rois, gt_class_ids, gt_boxes, gt_masks, config)
        build_rpn_targets(image_shape, anchors, gt_class_ids, gt_boxes, config)
        generate_random_rois(image_shape, count, gt_class_ids, gt_boxes)
        data_generator(dataset, config, shuffle, augment, augmentation, random_rois, batch_size,
            detection_targets, no_augmentation_sources)
        MaskRCNN(mode, config, model_dir)
        MaskRCNN.build(mode, config)
        MaskRCNN.find_last()
        MaskRCNN.load_weights(filepath, by_name, exclude)
        MaskRCNN.get_imagenet_weights()
        MaskRCNN.compile(learning_rate, momentum)
        MaskRCNN.set_trainable(layer_regex, keras_model, indent, verbose)
        MaskRCNN.set_log_dir(model_path)
        MaskRCNN.train(train_dataset, val_dataset, learning_rate, epochs, layers, augmentation,
            custom_callbacks, no_augmentation_sources)
        MaskRCNN.mold_inputs(images)
        MaskRCNN.unmold_detections(detections, mrcnn_mask, original_image_shape, image_shape,
            window)
        MaskRCNN.detect(images, verbose)
        MaskRCNN.detect_molded(molded_images, image_metas, verbose)
        MaskRCNN.get_anchors(image_shape)
        compose_image_meta(image_id, original_image_shape, image_shape, window, scale,
            active_class_ids)
        parse_image_meta(meta)
        parse_image_meta_graph(meta)
        mold_image(images, config)
        unmold_image(normalized_images, config)
        trim_zeros_graph(boxes, name)
        batch_pack_graph(x, counts, num_rows)
        norm_boxes_graph(boxes, shape)
        denorm_boxes_graph(boxes, shape)
    """,
    mrcnn.parallel_model: """
        ParallelModel(keras_model, gpu_count)
    """,
    mrcnn.config: """
        Config()
        Config.display()
    """,
    mrcnn.utils: """
        extract_bboxes(mask)
        compute_iou(box, boxes, box_area, boxes_area)
        compute_overlaps(boxes1, boxes2)
        compute_overlaps_masks(masks1, masks2)
        non_max_suppression(boxes, scores, threshold)
        apply_box_deltas(boxes, deltas)
        box_refinement_graph(box, gt_box)
        box_refinement(box, gt_box)
        Dataset(class_map)
        Dataset.add_class(source, class_id, class_name)
        Dataset.add_image(source, image_id, path)
        Dataset.image_reference(image_id)
        Dataset.prepare(class_map)
        Dataset.map_source_class_id(source_class_id)
        Dataset.get_source_class_id(class_id, source)
        Dataset.source_image_link(image_id)
        Dataset.load_image(image_id)
        Dataset.load_mask(image_id)
        resize_image(image, min_dim, max_dim, min_scale, mode)
        resize_mask(mask, scale, padding, crop)
        minimize_mask(bbox, mask, mini_shape)
        expand_mask(bbox, mini_mask, image_shape)
        mold_mask(mask, config)
        unmold_mask(mask, bbox, image_shape)
        generate_anchors(scales, ratios, shape, feature_stride, anchor_stride)
        generate_pyramid_anchors(scales, ratios, feature_shapes, feature_strides, anchor_stride)
        trim_zeros(x)
        compute_matches(gt_boxes, gt_class_ids, gt_masks, pred_boxes, pred_class_ids, pred_scores,
            pred_masks, iou_threshold, score_threshold)
        compute_ap(gt_boxes, gt_class_ids, gt_masks, pred_boxes, pred_class_ids, pred_scores,
            pred_masks, iou_threshold)
        compute_ap_range(gt_box, gt_class_id, gt_mask, pred_box, pred_class_id, pred_score,
            pred_mask, iou_thresholds, verbose)
        compute_recall(pred_boxes, gt_boxes, iou)
        batch_slice(inputs, graph_fn, batch_size, names)
        download_trained_weights(coco_model_path, verbose)
        norm_boxes(boxes, shape)
        denorm_boxes(boxes, shape)
        resize(image, output_shape, order, mode, cval, clip, preserve_range, anti_aliasing,
            anti_aliasing_sigma)
    """,
    mrcnn.visualize: """
        display_images(images, titles, cols, cmap, norm, interpolation)
        random_colors(N, bright)
        apply_mask(image, mask, color, alpha)
        display_instances(image, boxes, masks, class_ids, class_names, scores, title, figsize, ax,
            show_mask, show_bbox, colors, captions)
        display_differences(image, gt_box, gt_class_id, gt_mask, pred_box, pred_class_id,
            pred_score, pred_mask, class_names, title, ax, show_mask, show_box, iou_threshold,
            score_threshold)
        draw_rois(image, rois, refined_rois, mask, class_ids, class_names, limit)
        draw_box(image, box, color)
        display_top_masks(image, mask, class_ids, class_names, limit)
        plot_precision_recall(AP, precisions, recalls)
        plot_overlaps(gt_class_ids, pred_class_ids, pred_scores, overlaps, class_names, threshold)
        draw_boxes(image, boxes, refined_boxes, masks, captions, visibilities, title, ax)
        display_table(table)
        display_weight_stats(model)
    """,
}


def signatures():
    """Module, dotted name and parameters of each line above."""
    for module, text in SIGNATURES.items():
        for line in " ".join(text.split()).replace(") ", ")\n").splitlines():
            name, parameters = line.rstrip(")").split("(")
            parameters = [parameter for parameter in parameters.split(", ") if parameter]
            yield pytest.param(module, name, parameters, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize(("module", "name", "parameters"), list(signatures()))
def test_parameters_are_the_originals_in_order(module, name, parameters):
    owner = module
    for part in name.split("."):
        inside, owner = owner, getattr(owner, part)
    ours = list(inspect.signature(owner).parameters.values())
    if inspect.isclass(inside) and inspect.isfunction(owner):
        ours = ours[1:]
    assert [parameter.name for parameter in ours[: len(parameters)]] == parameters
    for further in ours[len(parameters) :]:
        variadic = further.kind in (further.VAR_POSITIONAL, further.VAR_KEYWORD)
        assert variadic or further.default is not further.empty


def test_other_names_of_the_original():
    assert mrcnn.utils.COCO_MODEL_URL.endswith("/v2.0/mask_rcnn_coco.h5")
    assert isinstance(mrcnn.utils.Dataset.image_ids, property)
    assert issubclass(mrcnn.model.BatchNorm, keras.layers.BatchNormalization)
    assert issubclass(mrcnn.parallel_model.ParallelModel, keras.Model)
