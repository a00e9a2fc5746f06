"""The original's public names, module by module; `tests/test_original_api.py` walks them.

A line is a function or a constructor with its parameters (a method's `self` is left out), a
constant with its value, a class with what it is derived from, or a name alone. A line that is
indented further goes on with the one before.
"""

API = {
    "mrcnn.config": """
        Config.NAME = None
        Config.GPU_COUNT = 1
        Config.IMAGES_PER_GPU = 2
        Config.STEPS_PER_EPOCH = 1000
        Config.VALIDATION_STEPS = 50
        Config.BACKBONE = "resnet101"
        Config.COMPUTE_BACKBONE_SHAPE = None
        Config.BACKBONE_STRIDES = [4, 8, 16, 32, 64]
        Config.FPN_CLASSIF_FC_LAYERS_SIZE = 1024
        Config.TOP_DOWN_PYRAMID_SIZE = 256
        Config.NUM_CLASSES = 1
        Config.RPN_ANCHOR_SCALES = (32, 64, 128, 256, 512)
        Config.RPN_ANCHOR_RATIOS = [0.5, 1, 2]
        Config.RPN_ANCHOR_STRIDE = 1
        Config.RPN_NMS_THRESHOLD = 0.7
        Config.RPN_TRAIN_ANCHORS_PER_IMAGE = 256
        Config.PRE_NMS_LIMIT = 6000
        Config.POST_NMS_ROIS_TRAINING = 2000
        Config.POST_NMS_ROIS_INFERENCE = 1000
        Config.USE_MINI_MASK = True
        Config.MINI_MASK_SHAPE = (56, 56)
        Config.IMAGE_RESIZE_MODE = "square"
        Config.IMAGE_MIN_DIM = 800
        Config.IMAGE_MAX_DIM = 1024
        Config.IMAGE_MIN_SCALE = 0
        Config.IMAGE_CHANNEL_COUNT = 3
        Config.MEAN_PIXEL = [123.7, 116.8, 103.9]
        Config.TRAIN_ROIS_PER_IMAGE = 200
        Config.ROI_POSITIVE_RATIO = 0.33
        Config.POOL_SIZE = 7
        Config.MASK_POOL_SIZE = 14
        Config.MASK_SHAPE = [28, 28]
        Config.MAX_GT_INSTANCES = 100
        Config.RPN_BBOX_STD_DEV = [0.1, 0.1, 0.2, 0.2]
        Config.BBOX_STD_DEV = [0.1, 0.1, 0.2, 0.2]
        Config.DETECTION_MAX_INSTANCES = 100
        Config.DETECTION_MIN_CONFIDENCE = 0.7
        Config.DETECTION_NMS_THRESHOLD = 0.3
        Config.LEARNING_RATE = 0.001
        Config.LEARNING_MOMENTUM = 0.9
        Config.WEIGHT_DECAY = 0.0001
        Config.LOSS_WEIGHTS = {"rpn_class_loss": 1.0, "rpn_bbox_loss": 1.0,
            "mrcnn_class_loss": 1.0, "mrcnn_bbox_loss": 1.0, "mrcnn_mask_loss": 1.0}
        Config.USE_RPN_ROIS = True
        Config.TRAIN_BN = False
        Config.GRADIENT_CLIP_NORM = 5.0
        Config()
        Config.display()
    """,
    "mrcnn.model": """
        log(text, array=None)
        BatchNorm < keras.layers.BatchNormalization
        BatchNorm.call(inputs, training=None)
        compute_backbone_shapes(config, image_shape)
        identity_block(input_tensor, kernel_size, filters, stage, block, use_bias=True,
            train_bn=True)
        conv_block(input_tensor, kernel_size, filters, stage, block, strides=(2, 2), use_bias=True,
            train_bn=True)
        resnet_graph(input_image, architecture, stage5=False, train_bn=True)
        apply_box_deltas_graph(boxes, deltas)
        clip_boxes_graph(boxes, window)
        ProposalLayer < keras.layers.Layer
        ProposalLayer(proposal_count, nms_threshold, config=None, **kwargs)
        ProposalLayer.call(inputs)
        ProposalLayer.compute_output_shape(input_shape)
        log2_graph(x)
        PyramidROIAlign < keras.layers.Layer
        PyramidROIAlign(pool_shape, **kwargs)
        PyramidROIAlign.call(inputs)
        PyramidROIAlign.compute_output_shape(input_shape)
        overlaps_graph(boxes1, boxes2)
        detection_targets_graph(proposals, gt_class_ids, gt_boxes, gt_masks, config)
        DetectionTargetLayer < keras.layers.Layer
        DetectionTargetLayer(config, **kwargs)
        DetectionTargetLayer.call(inputs)
        DetectionTargetLayer.compute_output_shape(input_shape)
        DetectionTargetLayer.compute_mask(inputs, mask=None)
        refine_detections_graph(rois, probs, deltas, window, config)
        DetectionLayer < keras.layers.Layer
        DetectionLayer(config=None, **kwargs)
        DetectionLayer.call(inputs)
        DetectionLayer.compute_output_shape(input_shape)
        rpn_graph(feature_map, anchors_per_location, anchor_stride)
        build_rpn_model(anchor_stride, anchors_per_location, depth)
        fpn_classifier_graph(rois, feature_maps, image_meta, pool_size, num_classes, train_bn=True,
            fc_layers_size=1024)
        build_fpn_mask_graph(rois, feature_maps, image_meta, pool_size, num_classes, train_bn=True)
        smooth_l1_loss(y_true, y_pred)
        rpn_class_loss_graph(rpn_match, rpn_class_logits)
        rpn_bbox_loss_graph(config, target_bbox, rpn_match, rpn_bbox)
        mrcnn_class_loss_graph(target_class_ids, pred_class_logits, active_class_ids)
        mrcnn_bbox_loss_graph(target_bbox, target_class_ids, pred_bbox)
        mrcnn_mask_loss_graph(target_masks, target_class_ids, pred_masks)
        load_image_gt(dataset, config, image_id, augment=False, augmentation=None,
            use_mini_mask=False)
        build_detection_targets(rpn_rois, gt_class_ids, gt_boxes, gt_masks, config)
        build_rpn_targets(image_shape, anchors, gt_class_ids, gt_boxes, config)
        generate_random_rois(image_shape, count, gt_class_ids, gt_boxes)
        data_generator(dataset, config, shuffle=True, augment=False, augmentation=None,
            random_rois=0, batch_size=1, detection_targets=False, no_augmentation_sources=None)
        MaskRCNN(mode, config, model_dir)
        MaskRCNN.build(mode, config)
        MaskRCNN.find_last()
        MaskRCNN.load_weights(filepath, by_name=False, exclude=None)
        MaskRCNN.get_imagenet_weights()
        MaskRCNN.compile(learning_rate, momentum)
        MaskRCNN.set_trainable(layer_regex, keras_model=None, indent=0, verbose=1)
        MaskRCNN.set_log_dir(model_path=None)
        MaskRCNN.train(train_dataset, val_dataset, learning_rate, epochs, layers,
            augmentation=None, custom_callbacks=None, no_augmentation_sources=None)
        MaskRCNN.mold_inputs(images)
        MaskRCNN.unmold_detections(detections, mrcnn_mask, original_image_shape, image_shape,
            window)
        MaskRCNN.detect(images, verbose=0)
        MaskRCNN.detect_molded(molded_images, image_metas, verbose=0)
        MaskRCNN.get_anchors(image_shape)
        MaskRCNN.ancestor(tensor, name, checked=None)
        MaskRCNN.find_trainable_layer(layer)
        MaskRCNN.get_trainable_layers()
        MaskRCNN.run_graph(images, outputs, image_metas=None)
        compose_image_meta(image_id, original_image_shape, image_shape, window, scale,
            active_class_ids)
        parse_image_meta(meta)
        parse_image_meta_graph(meta)
        mold_image(images, config)
        unmold_image(normalized_images, config)
        trim_zeros_graph(boxes, name="trim_zeros")
        batch_pack_graph(x, counts, num_rows)
        norm_boxes_graph(boxes, shape)
        denorm_boxes_graph(boxes, shape)
    """,
    "mrcnn.parallel_model": """
        ParallelModel < keras.Model
        ParallelModel(keras_model, gpu_count)
        ParallelModel.__getattribute__(attrname)
        ParallelModel.summary(*args, **kwargs)
        ParallelModel.make_parallel()
    """,
    "mrcnn.utils": """
        COCO_MODEL_URL =
            "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5"
        extract_bboxes(mask)
        compute_iou(box, boxes, box_area, boxes_area)
        compute_overlaps(boxes1, boxes2)
        compute_overlaps_masks(masks1, masks2)
        non_max_suppression(boxes, scores, threshold)
        apply_box_deltas(boxes, deltas)
        box_refinement_graph(box, gt_box)
        box_refinement(box, gt_box)
        Dataset(class_map=None)
        Dataset.add_class(source, class_id, class_name)
        Dataset.add_image(source, image_id, path, **kwargs)
        Dataset.image_reference(image_id)
        Dataset.prepare(class_map=None)
        Dataset.map_source_class_id(source_class_id)
        Dataset.get_source_class_id(class_id, source)
        Dataset.image_ids: property
        Dataset.source_image_link(image_id)
        Dataset.load_image(image_id)
        Dataset.load_mask(image_id)
        resize_image(image, min_dim=None, max_dim=None, min_scale=None, mode="square")
        resize_mask(mask, scale, padding, crop=None)
        minimize_mask(bbox, mask, mini_shape)
        expand_mask(bbox, mini_mask, image_shape)
        mold_mask(mask, config)
        unmold_mask(mask, bbox, image_shape)
        generate_anchors(scales, ratios, shape, feature_stride, anchor_stride)
        generate_pyramid_anchors(scales, ratios, feature_shapes, feature_strides, anchor_stride)
        trim_zeros(x)
        compute_matches(gt_boxes, gt_class_ids, gt_masks, pred_boxes, pred_class_ids, pred_scores,
            pred_masks, iou_threshold=0.5, score_threshold=0.0)
        compute_ap(gt_boxes, gt_class_ids, gt_masks, pred_boxes, pred_class_ids, pred_scores,
            pred_masks, iou_threshold=0.5)
        compute_ap_range(gt_box, gt_class_id, gt_mask, pred_box, pred_class_id, pred_score,
            pred_mask, iou_thresholds=None, verbose=1)
        compute_recall(pred_boxes, gt_boxes, iou)
        batch_slice(inputs, graph_fn, batch_size, names=None)
        download_trained_weights(coco_model_path, verbose=1)
        norm_boxes(boxes, shape)
        denorm_boxes(boxes, shape)
        resize(image, output_shape, order=1, mode="constant", cval=0, clip=True,
            preserve_range=False, anti_aliasing=False, anti_aliasing_sigma=None)
    """,
    "mrcnn.visualize": """
        ROOT_DIR
        display_images(images, titles=None, cols=4, cmap=None, norm=None, interpolation=None)
        random_colors(N, bright=True)
        apply_mask(image, mask, color, alpha=0.5)
        display_instances(image, boxes, masks, class_ids, class_names, scores=None, title="",
            figsize=(16, 16), ax=None, show_mask=True, show_bbox=True, colors=None, captions=None)
        display_differences(image, gt_box, gt_class_id, gt_mask, pred_box, pred_class_id,
            pred_score, pred_mask, class_names, title="", ax=None, show_mask=True, show_box=True,
            iou_threshold=0.5, score_threshold=0.5)
        draw_rois(image, rois, refined_rois, mask, class_ids, class_names, limit=10)
        draw_box(image, box, color)
        display_top_masks(image, mask, class_ids, class_names, limit=4)
        plot_precision_recall(AP, precisions, recalls)
        plot_overlaps(gt_class_ids, pred_class_ids, pred_scores, overlaps, class_names,
            threshold=0.5)
        draw_boxes(image, boxes=None, refined_boxes=None, masks=None, captions=None,
            visibilities=None, title="", ax=None)
        display_table(table)
        display_weight_stats(model)
    """,
    "samples.balloon.balloon": """
        ROOT_DIR
        COCO_WEIGHTS_PATH
        DEFAULT_LOGS_DIR
        BalloonConfig < mrcnn.config.Config
        BalloonConfig.NAME = "balloon"
        BalloonConfig.IMAGES_PER_GPU = 2
        BalloonConfig.NUM_CLASSES = 2
        BalloonConfig.STEPS_PER_EPOCH = 100
        BalloonConfig.DETECTION_MIN_CONFIDENCE = 0.9
        BalloonDataset < mrcnn.utils.Dataset
        BalloonDataset.load_balloon(dataset_dir, subset)
        BalloonDataset.load_mask(image_id)
        BalloonDataset.image_reference(image_id)
        train(model)
        color_splash(image, mask)
        detect_and_color_splash(model, image_path=None, video_path=None)
    """,
    "samples.coco.coco": """
        ROOT_DIR
        COCO_MODEL_PATH
        DEFAULT_LOGS_DIR
        DEFAULT_DATASET_YEAR = "2014"
        CocoConfig < mrcnn.config.Config
        CocoConfig.NAME = "coco"
        CocoConfig.IMAGES_PER_GPU = 2
        CocoConfig.NUM_CLASSES = 81
        CocoDataset < mrcnn.utils.Dataset
        CocoDataset.load_coco(dataset_dir, subset, year="2014", class_ids=None, class_map=None,
            return_coco=False, auto_download=False)
        CocoDataset.auto_download(dataDir, dataType, dataYear)
        CocoDataset.load_mask(image_id)
        CocoDataset.image_reference(image_id)
        CocoDataset.annToRLE(ann, height, width)
        CocoDataset.annToMask(ann, height, width)
        build_coco_results(dataset, image_ids, rois, class_ids, scores, masks)
        evaluate_coco(model, dataset, coco, eval_type="bbox", limit=0, image_ids=None)
    """,
    "samples.nucleus.nucleus": """
        ROOT_DIR
        COCO_WEIGHTS_PATH
        DEFAULT_LOGS_DIR
        RESULTS_DIR
        VAL_IMAGE_IDS
        NucleusConfig < mrcnn.config.Config
        NucleusConfig.NAME = "nucleus"
        NucleusConfig.IMAGES_PER_GPU = 6
        NucleusConfig.NUM_CLASSES = 2
        NucleusConfig.STEPS_PER_EPOCH = 105
        NucleusConfig.VALIDATION_STEPS = 4
        NucleusConfig.DETECTION_MIN_CONFIDENCE = 0
        NucleusConfig.BACKBONE = "resnet50"
        NucleusConfig.IMAGE_RESIZE_MODE = "crop"
        NucleusConfig.IMAGE_MIN_DIM = 512
        NucleusConfig.IMAGE_MAX_DIM = 512
        NucleusConfig.IMAGE_MIN_SCALE = 2.0
        NucleusConfig.RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
        NucleusConfig.POST_NMS_ROIS_TRAINING = 1000
        NucleusConfig.POST_NMS_ROIS_INFERENCE = 2000
        NucleusConfig.RPN_NMS_THRESHOLD = 0.9
        NucleusConfig.RPN_TRAIN_ANCHORS_PER_IMAGE = 64
        NucleusConfig.MEAN_PIXEL = [43.53, 39.56, 48.22]
        NucleusConfig.USE_MINI_MASK = True
        NucleusConfig.MINI_MASK_SHAPE = (56, 56)
        NucleusConfig.TRAIN_ROIS_PER_IMAGE = 128
        NucleusConfig.MAX_GT_INSTANCES = 200
        NucleusConfig.DETECTION_MAX_INSTANCES = 400
        NucleusInferenceConfig < samples.nucleus.nucleus.NucleusConfig
        NucleusInferenceConfig.GPU_COUNT = 1
        NucleusInferenceConfig.IMAGES_PER_GPU = 1
        NucleusInferenceConfig.IMAGE_RESIZE_MODE = "pad64"
        NucleusInferenceConfig.RPN_NMS_THRESHOLD = 0.7
        NucleusDataset < mrcnn.utils.Dataset
        NucleusDataset.load_nucleus(dataset_dir, subset)
        NucleusDataset.load_mask(image_id)
        NucleusDataset.image_reference(image_id)
        train(model, dataset_dir, subset)
        rle_encode(mask)
        rle_decode(rle, shape)
        mask_to_rle(image_id, mask, scores)
        detect(model, dataset_dir, subset)
    """,
    "samples.shapes.shapes": """
        ROOT_DIR
        ShapesConfig < mrcnn.config.Config
        ShapesConfig.NAME = "shapes"
        ShapesConfig.GPU_COUNT = 1
        ShapesConfig.IMAGES_PER_GPU = 8
        ShapesConfig.NUM_CLASSES = 4
        ShapesConfig.IMAGE_MIN_DIM = 128
        ShapesConfig.IMAGE_MAX_DIM = 128
        ShapesConfig.RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
        ShapesConfig.TRAIN_ROIS_PER_IMAGE = 32
        ShapesConfig.STEPS_PER_EPOCH = 100
        ShapesConfig.VALIDATION_STEPS = 5
        ShapesDataset < mrcnn.utils.Dataset
        ShapesDataset.load_shapes(count, height, width)
        ShapesDataset.load_image(image_id)
        ShapesDataset.image_reference(image_id)
        ShapesDataset.load_mask(image_id)
        ShapesDataset.draw_shape(image, shape, dims, color)
        ShapesDataset.random_shape(height, width)
        ShapesDataset.random_image(height, width)
    """,
}
